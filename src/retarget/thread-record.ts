/**
 * musl's thread record and thread-local storage, from one ISA's layout to the other's (`src/isa/isa.ts` draws both).
 * The record stays at its address, so every `pthread_t` that the program holds stays true.
 */

import type { Isa } from '../isa/isa.js'
import { UnreadableError } from '../lib/errors.js'
import type { Address, Memory } from '../model/memory.js'

/** The PT_TLS segment: the same in both binaries. */
export interface StorageSegment {
  readonly memorySize: number
  readonly alignment: number
}

const RECORD_SIZE = 200

/** Address of the record of the thread whose thread pointer is given. */
export function recordAddress(isa: Isa, threadPointer: Address): Address {
  return threadPointer - BigInt(isa.musl.pointerOffset)
}

/** Address of the first byte of the thread's storage. */
export function storageAddress(isa: Isa, record: Address, segment: StorageSegment): Address {
  return record + BigInt(isa.musl.storageOffset(segment))
}

/** Where a byte of the record goes: an address in [record, record + 200) of `from`, in the layout of `to`. */
export function translateRecordAddress(address: Address, record: Address, from: Isa, to: Isa): Address {
  const offset = Number(address - record)
  for (const [i, [, start, length]] of from.musl.record.entries())
    if (offset >= start && offset < start + length)
      return record + BigInt(to.musl.record[i]![1] + offset - start)
  return address
}

/** Bytes to lay over the memory of an image. */
export interface Patch {
  readonly address: Address
  readonly bytes: Uint8Array
}

/**
 * The record and the storage as the target's musl wants them, as patches.
 * @throws UnreadableError when the record does not begin with its own address, as musl's does.
 */
export function translateThreadRecord(
  memory: Memory,
  record: Address,
  segment: StorageSegment,
  from: Isa,
  to: Isa,
): Patch[] {
  const old = memory.read(record, RECORD_SIZE)
  const oldView = new DataView(old.buffer, old.byteOffset, RECORD_SIZE)
  const self = oldView.getBigUint64(0, true)
  if (self !== record)
    throw new UnreadableError('a thread without a thread record of musl', {
      address: record,
      found: `0x${self.toString(16)}`,
      expected: `0x${record.toString(16)}`,
    })
  const bytes = new Uint8Array(RECORD_SIZE)
  const view = new DataView(bytes.buffer)
  for (const [i, [, start, length]] of from.musl.record.entries())
    bytes.set(old.subarray(start, start + length), to.musl.record[i]![1])
  // Words that point into the record itself, as the empty list of robust mutexes does.
  for (let offset = 8; offset < RECORD_SIZE; offset += 8) {
    const word = view.getBigUint64(offset, true)
    if (word > record && word < record + BigInt(RECORD_SIZE))
      view.setBigUint64(offset, translateRecordAddress(word, record, from, to), true)
  }
  const patches: Patch[] = [{ address: record, bytes }]

  const dtv = oldView.getBigUint64(fieldOffset(from, 'dtv'), true)
  if (segment.memorySize > 0) {
    const storage = storageAddress(to, record, segment)
    patches.push({
      address: storage,
      bytes: memory.read(storageAddress(from, record, segment), segment.memorySize),
    })
    const modules = memory.readU64(dtv)
    if (modules >= 1n) patches.push(wordPatch(dtv + 8n, storage))
  }
  return patches
}

function fieldOffset(isa: Isa, name: string): number {
  return isa.musl.record.find(field => field[0] === name)![1]
}

/** A word of memory set to `value`. */
export function wordPatch(address: Address, value: bigint): Patch {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, value, true)
  return { address, bytes }
}

/** `struct pthread`: the stack that pthread_create gave the thread, [low, top); undefined for the first thread. */
export function threadStack(
  memory: Memory,
  record: Address,
  isa: Isa,
): { low: Address; top: Address } | undefined {
  // tid, errno, detach state, cancel, three bytes of flags, map_base, map_size come before `stack`.
  const common = record + BigInt(fieldOffset(isa, 'tid and all that follows'))
  const top = memory.readU64(common + 40n)
  const size = memory.readU64(common + 48n)
  return top === 0n || size === 0n ? undefined : { low: top - size, top }
}
