/** What is refused of a whole process, before and after it has changed its ISA; a thread that cannot, `thread-state.ts` refuses. */
import { LossError, UnreadableError } from '../lib/errors.js'
import { type Address, extentEnd, type Memory } from '../model/memory.js'
import type { Mapping, Process } from '../model/process.js'
import { type ProgramDescription, runtimeSymbols } from '../toolchain/program.js'
import type { ProgramBinary } from './program-binary.js'

/** Only the stack can move: whatever else lies beyond the target's address space is pointed to. */
export function refuseUnreachable(mappings: readonly Mapping[], end: Address): void {
  const beyond = mappings.find(mapping => mapping.end > end)
  if (beyond !== undefined)
    throw new LossError('a mapping lies where the target ISA has no addresses', {
      address: beyond.start,
      found: `${beyond.kind} up to 0x${beyond.end.toString(16)}`,
      expected: `at most 0x${end.toString(16)}`,
      hint: 'the program chose that address itself; let mmap choose',
    })
}

/** Nothing of the result may lie outside its mappings: a table of ours would be wrong, and the bytes would be lost. */
export function checkMapped(memory: Memory, mappings: readonly Mapping[]): void {
  let i = 0
  for (const extent of memory.extents) {
    let at = extent.address
    while (at < extentEnd(extent)) {
      while (i < mappings.length && mappings[i]!.end <= at) i++
      const mapping = mappings[i]
      if (mapping === undefined || mapping.start > at)
        throw new UnreadableError('the retargeted program would have memory outside its mappings', {
          address: at,
          hint: 'the binary and the runtime do not agree; compile the program again with imago cc',
        })
      at = mapping.end
    }
  }
}

/** @throws LossError when the image was made by another program, or another build of it. */
export function checkIdentity(process: Process, source: ProgramBinary, program: ProgramDescription): void {
  const address = source.address(runtimeSymbols.identity)
  const bytes = process.memory.tryRead(address, 32)
  const found = bytes && Buffer.from(bytes).toString('hex')
  if (found !== program.identity)
    throw new LossError(`the image is not of this build of ${program.name}`, {
      file: program.path,
      address,
      found: found === undefined ? 'no identity in the image' : `identity ${found}`,
      expected: `identity ${program.identity}`,
      hint: `the image is of ${process.executable ?? 'an unknown program'}; give the description of the build it was made of with --program`,
    })
}
