/** What the kernel keeps a thread, and where its registers lie ⇄ the record `thread`. The registers themselves are in standard notes. */
import { isas } from '../../isa/isas.js'
import type { Address, Memory } from '../../model/memory.js'
import type { IsaName, Thread } from '../../model/process.js'
import type { NoteRecord, RecordValues } from './private-notes.js'

export type KernelThread = Omit<Thread, 'tid' | 'registers' | 'pendingSignals'>

/** What the kernel kept for a thread, but its registers. */
export function readKernelThread(record: NoteRecord): KernelThread {
  const alternateSize = record.big('alternateStackSize')
  const [robustHead, rseqAddress] = [record.big('robustHead'), record.big('rseqAddress')]
  return {
    name: record.text('name'),
    signalMask: record.big('signalMask'),
    alternateStack:
      alternateSize > 0n
        ? {
            address: record.big('alternateStack'),
            size: alternateSize,
            flags: record.number('alternateStackFlags'),
          }
        : undefined,
    clearTidAddress: record.big('clearTid'),
    robustList: robustHead > 0n ? { head: robustHead, length: record.number('robustLength') } : undefined,
    rseq:
      rseqAddress > 0n
        ? {
            address: rseqAddress,
            length: record.number('rseqLength'),
            signature: record.number('rseqSignature'),
          }
        : undefined,
  }
}

/** @param frame address of the thread's signal frame, which holds its registers. */
export function threadValues(thread: Thread, frame: Address, isa: IsaName, memory: Memory): RecordValues {
  const { general } = thread.registers
  const stack = thread.alternateStack
  return {
    tid: thread.tid,
    frame,
    tls: general.get(isas[isa].threadPointer) ?? 0n,
    tls2: general.get('gs_base') ?? 0n,
    clearTid: thread.clearTidAddress,
    cachedTid: cachedTid(thread, isa, memory),
    robustHead: thread.robustList?.head ?? 0n,
    robustLength: thread.robustList?.length ?? 0,
    rseqAddress: thread.rseq?.address ?? 0n,
    rseqLength: thread.rseq?.length ?? 0,
    rseqSignature: thread.rseq?.signature ?? 0,
    signalMask: thread.signalMask,
    alternateStack: stack?.address ?? 0n,
    alternateStackSize: stack?.size ?? 0n,
    alternateStackFlags: stack?.flags ?? 2,
    name: thread.name,
  }
}

/** glibc keeps the tid where the kernel clears it, musl in the thread's record (native/preload/threads.c). */
function cachedTid(thread: Thread, isa: IsaName, memory: Memory): Address {
  const { musl, threadPointer } = isas[isa]
  const pointer = thread.registers.general.get(threadPointer) ?? 0n
  const tidOffset = musl.record.find(([name]) => name.startsWith('tid'))![1]
  const candidates = [thread.clearTidAddress, pointer - BigInt(musl.pointerOffset) + BigInt(tidOffset)]
  const holdsTid = (address: Address) => {
    const bytes = address > 0n ? memory.tryRead(address, 4) : undefined
    return bytes !== undefined && Buffer.from(bytes).readUInt32LE() === thread.tid
  }
  return candidates.find(holdsTid) ?? 0n
}
