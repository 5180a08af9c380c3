/**
 * Threads that may still be joined, from the list that the runtime keeps (native/runtime/joinable.c). One that has ended is
 * no thread of the image any more, but its record waits for pthread_join and has to be in the target's layout by then.
 *
 *   __imago_joinable ──► { u64 next, u64 pthread_t } ──► … ──► 0
 */
import { UnreadableError } from '../lib/errors.js'
import type { Address, Memory } from '../model/memory.js'
import { runtimeSymbols } from '../toolchain/program.js'
import type { ProgramBinary } from './program-binary.js'

/** More than Linux has process ids. */
const LIMIT_THREADS = 1 << 22

/** Addresses of their records. @throws UnreadableError when the list is damaged. */
export function joinableThreads(memory: Memory, source: ProgramBinary): Address[] {
  const head = source.address(runtimeSymbols.joinable)
  const records = new Set<Address>()
  // Untouched bss is not in an image: nobody was ever to be joined.
  let at = memory.tryReadU64(head) ?? 0n
  while (at !== 0n) {
    const record = memory.readU64(at + 8n)
    if (records.has(record) || records.size > LIMIT_THREADS)
      throw new UnreadableError('the list of threads that may be joined is damaged', {
        address: at,
        found: `thread 0x${record.toString(16)} twice`,
      })
    records.add(record)
    at = memory.readU64(at)
  }
  return [...records]
}
