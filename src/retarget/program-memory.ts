/**
 * The program's own part of the address space on the target: code and constants are the target binary's, data and bss are the
 * image's, by reference.
 *
 *   target segment (writable)   [ head of the page | .tdata .init_array .got | .data       | .bss             ]
 *   whose bytes                   target's file      target's file             the image's   the image's
 *
 * Read-only segments hold no bytes at all in the result: whoever restores maps the target's file.
 */
import { alignDownBig, alignUpBig } from '../lib/bytes.js'
import { PF, type ProgramHeader } from '../lib/elf-header.js'
import { type Section, SHF, SHT } from '../lib/elf-sections.js'
import { LossError } from '../lib/errors.js'
import { type Address, type Extent, Memory, PAGE_SIZE_BIG, ZERO } from '../model/memory.js'
import type { Mapping, Process } from '../model/process.js'
import type { ProgramBinary } from './program-binary.js'

export interface AddressRange {
  readonly start: Address
  /** First address after it. */
  readonly end: Address
}

/** The pages that the binary's segments take. */
export function programRange(binary: ProgramBinary): AddressRange {
  const last = binary.loads.at(-1)!
  return {
    start: alignDownBig(binary.loads[0]!.virtualAddress, PAGE_SIZE_BIG),
    end: pageUp(last.virtualAddress + BigInt(last.memorySize)),
  }
}

/** The mappings that the kernel makes when it starts `binary`. */
function programMappings(binary: ProgramBinary): Mapping[] {
  return binary.loads.flatMap(segment => {
    const start = alignDownBig(segment.virtualAddress, PAGE_SIZE_BIG)
    const fileEnd = pageUp(segment.virtualAddress + BigInt(segment.fileSize))
    const end = pageUp(segment.virtualAddress + BigInt(segment.memorySize))
    const common = {
      read: (segment.flags & PF.R) !== 0,
      write: (segment.flags & PF.W) !== 0,
      execute: (segment.flags & PF.X) !== 0,
      shared: false,
      growsDown: false,
      advice: [],
    }
    const offset = BigInt(segment.offset) - (segment.virtualAddress - start)
    const mappings: Mapping[] = []
    if (segment.fileSize > 0)
      mappings.push({
        ...common,
        start,
        end: fileEnd,
        kind: 'file',
        file: { path: binary.path, offset, deleted: false },
      })
    const anonymous = segment.fileSize > 0 ? fileEnd : start
    if (end > anonymous) mappings.push({ ...common, start: anonymous, end, kind: 'anonymous' })
    return mappings
  })
}

/** The mappings of `process` with the source binary's replaced by the target's. */
export function replaceProgramMappings(
  mappings: readonly Mapping[],
  source: ProgramBinary,
  target: ProgramBinary,
): Mapping[] {
  const old = programRange(source)
  const kept = mappings.flatMap(mapping => cutOut(mapping, old))
  const range = programRange(target)
  const clash = kept.find(mapping => mapping.start < range.end && mapping.end > range.start)
  if (clash !== undefined)
    throw new LossError('the target binary needs addresses that the program has in use', {
      address: clash.start,
      found: `a mapping up to 0x${clash.end.toString(16)} (${clash.kind})`,
      expected: `nothing below 0x${range.end.toString(16)}`,
    })
  return [...kept, ...programMappings(target)].sort((a, b) => (a.start < b.start ? -1 : 1))
}

/** The bytes of the writable segments on the target. */
export function programMemory(process: Process, source: ProgramBinary, target: ProgramBinary): Extent[] {
  return target.loads
    .filter(segment => segment.flags & PF.W)
    .flatMap(segment => {
      const shared = target.elf.sections.filter(section => isShared(section) && within(section, segment))
      const overlays = shared.flatMap(section => imageBytes(process.memory, source, section))
      return [...Memory.from(fileBytes(segment, target)).overlay(overlays).extents]
    })
}

/** Data and bss move as they are; every other writable section is of the ISA. */
function isShared(section: Section): boolean {
  const loaded = SHF.ALLOC | SHF.WRITE
  return (
    (section.flags & loaded) === loaded &&
    (section.flags & SHF.TLS) === 0 &&
    section.size > 0 &&
    /^\.(data|bss)(\.|$)/.test(section.name)
  )
}

function within(section: Section, segment: ProgramHeader): boolean {
  return (
    section.address >= segment.virtualAddress &&
    section.address < segment.virtualAddress + BigInt(segment.memorySize)
  )
}

/** What the kernel puts there at the start: the file's bytes, the beginning of its page, and zeros to the end of its last page. */
function fileBytes(segment: ProgramHeader, binary: ProgramBinary): Extent[] {
  const start = alignDownBig(segment.virtualAddress, PAGE_SIZE_BIG)
  const head = Number(segment.virtualAddress - start)
  const fileEnd = segment.virtualAddress + BigInt(segment.fileSize)
  if (segment.fileSize === 0) return []
  return [
    {
      address: start,
      length: head + segment.fileSize,
      content: { kind: 'slice', source: binary.elf.source, offset: segment.offset - head },
    },
    { address: fileEnd, length: Number(pageUp(fileEnd) - fileEnd), content: ZERO },
  ]
}

/**
 * The bytes of a section of the target as the image has them: the dumped pages, and where a page was never dumped because it
 * was never touched, the source binary's own. Untouched bss stays out.
 */
function imageBytes(memory: Memory, source: ProgramBinary, section: Section): Extent[] {
  const twin = source.elf.sections.find(
    candidate => candidate.name === section.name && candidate.address === section.address,
  )
  if (twin === undefined)
    throw new LossError(`the two binaries have no common layout: ${section.name}`, {
      file: source.path,
      address: section.address,
      hint: 'compile the program again with imago cc',
    })
  const end = section.address + BigInt(Math.min(section.size, twin.size))
  const dumped = [...memory.within(section.address, end)]
  if (twin.type === SHT.NOBITS) return dumped
  const whole: Extent = {
    address: twin.address,
    length: Math.min(section.size, twin.size),
    content: { kind: 'slice', source: source.elf.source, offset: twin.offset },
  }
  return [...Memory.from([whole]).overlay(dumped).extents]
}

/** What is left of `mapping` outside `range`. */
function cutOut(mapping: Mapping, range: AddressRange): Mapping[] {
  if (mapping.end <= range.start || mapping.start >= range.end) return [mapping]
  const parts: Mapping[] = []
  if (mapping.start < range.start) parts.push({ ...mapping, end: range.start })
  if (mapping.end > range.end) {
    const skipped = range.end - mapping.start
    parts.push({
      ...mapping,
      start: range.end,
      ...(mapping.file && { file: { ...mapping.file, offset: mapping.file.offset + skipped } }),
    })
  }
  return parts
}

function pageUp(address: Address): Address {
  return alignUpBig(address, PAGE_SIZE_BIG)
}
