/**
 * The auxiliary vector on the target: what the kernel told the program about its processor and its binary at the start.
 * It is there twice, in the kernel's record of the process and on the stack, where the C library looks things up.
 */
import { AT } from '../isa/linux.js'
import type { Address, Memory } from '../model/memory.js'
import type { AddressSpaceLayout } from '../model/process.js'
import type { MainStack } from './main-stack.js'
import type { ProgramBinary } from './program-binary.js'
import { type Patch, wordPatch } from './thread-record.js'

/** Entries that speak of the source's processor or vDSO and have no counterpart. */
const ofTheSource = new Set<bigint>([
  AT.PLATFORM,
  AT.BASE_PLATFORM,
  AT.HWCAP2,
  AT.HWCAP3,
  AT.HWCAP4,
  AT.RSEQ_FEATURE_SIZE,
  AT.RSEQ_ALIGN,
  AT.SYSINFO_EHDR,
])

type Entry = readonly [type: bigint, value: bigint]

/** The value an entry has on the target; undefined: no such entry there. */
function translate([type, value]: Entry, target: ProgramBinary, stack: MainStack): bigint | undefined {
  if (ofTheSource.has(type)) return undefined
  switch (type) {
    case AT.HWCAP:
      return 0n
    case AT.MINSIGSTKSZ:
      return target.isa.minimumSignalStack
    case AT.ENTRY:
      return target.elf.header.entry
    case AT.PHNUM:
      return BigInt(target.elf.header.programHeaderCount)
    case AT.PHDR:
      return programHeaderAddress(target) ?? value
    case AT.RANDOM:
    case AT.EXECFN:
      return value >= stack.old.start && value < stack.old.end ? value + stack.shift : value
    default:
      return value
  }
}

/** The kernel's record of the vector. */
export function translateVector(
  vector: AddressSpaceLayout['auxv'],
  target: ProgramBinary,
  stack: MainStack,
): AddressSpaceLayout['auxv'] {
  return vector.flatMap(entry => {
    const value = translate(entry, target, stack)
    return value === undefined ? [] : [[entry[0], value] as const]
  })
}

/** The same in memory: behind envp. Entries that vanish become AT_IGNORE. */
export function translateVectorInMemory(
  memory: Memory,
  layout: AddressSpaceLayout,
  target: ProgramBinary,
  stack: MainStack,
): Patch[] {
  const { old, shift } = stack
  if (layout.startStack < old.start || layout.startStack >= old.end) return []
  const upper = memory.readUpTo(layout.startStack, Number(old.end - layout.startStack))
  const view = new DataView(upper.buffer, upper.byteOffset, upper.byteLength)
  const patches: Patch[] = []
  let at = 8
  for (let zeros = 0; zeros < 2 && at + 8 <= upper.length; at += 8)
    if (view.getBigUint64(at, true) === 0n) zeros++
  for (; at + 16 <= upper.length; at += 16) {
    const type = view.getBigUint64(at, true)
    if (type === AT.NULL) break
    const old = view.getBigUint64(at + 8, true)
    const value = translate([type, old], target, stack)
    const address: Address = layout.startStack + BigInt(at) + shift
    if (value === undefined) patches.push(wordPatch(address, AT.IGNORE))
    else if (value !== old) patches.push(wordPatch(address + 8n, value))
  }
  return patches
}

function programHeaderAddress(binary: ProgramBinary): Address | undefined {
  const offset = binary.elf.header.programHeaderOffset
  return binary.elf.addressOfOffset(offset)
}
