/**
 * Puts a static ELF program into fresh guest memory, as Linux's execve does: segments with their permissions, and
 * on the stack argc, argv, envp and the auxiliary vector (System V ABI, AMD64 supplement, 3.4.1).
 */
import crypto from 'node:crypto'
import { LOWEST_ADDRESS, PIE_BASE, type ProgramRoom, STACK_SIZE } from '../../formats/microvm/guest-layout.js'
import { FileSource } from '../../lib/byte-source.js'
import { alignUp } from '../../lib/bytes.js'
import {
  type ElfHeader,
  EM,
  ET,
  PF,
  type ProgramHeader,
  PT,
  readElfHeader,
  readNotes,
  readProgramHeaders,
} from '../../lib/elf-header.js'
import { LossError, UnreadableError, UsageError } from '../../lib/errors.js'
import { PAGE_SIZE } from '../../model/memory.js'
import type { ProcessState } from './guest.js'
import type { GuestMemory } from './guest-memory.js'
import { Protection } from './mappings.js'

const NT_GNU_ABI_TAG = 1

export interface LoadedProgram {
  readonly entry: number
  readonly stackPointer: number
}

const pageDown = (value: number) => Math.floor(value / PAGE_SIZE) * PAGE_SIZE

/** @throws UnreadableError, UsageError for a program that cannot run here, with the cure. */
export function loadProgram(
  memory: GuestMemory,
  process: ProcessState,
  file: string,
  argv: readonly string[],
  environment: readonly string[],
  room: ProgramRoom = { lowest: LOWEST_ADDRESS, top: memory.memorySize, stackSize: STACK_SIZE },
): LoadedProgram {
  const source = new FileSource(file)
  try {
    const header = readElfHeader(source)
    const segments = readProgramHeaders(source, header)
    refuseOtherKinds(header, segments, file)
    process.boundToCpu ||= segments.some(segment => segment.type === PT.NOTE && isOfGlibc(source, segment))
    const base = header.type === ET.DYN ? PIE_BASE : 0
    let end = 0
    let headersAt = 0
    for (const segment of segments) {
      if (segment.type !== PT.LOAD || segment.memorySize === 0) continue
      const address = base + Number(segment.virtualAddress)
      loadSegment(memory, source, segment, address, room)
      if (
        segment.offset <= header.programHeaderOffset &&
        header.programHeaderOffset < segment.offset + segment.fileSize
      )
        headersAt = address + header.programHeaderOffset - segment.offset
      end = Math.max(end, address + segment.memorySize)
    }
    if (end === 0) throw new UnreadableError('the program has nothing to load', { file })
    process.brkStart = alignUp(end, PAGE_SIZE)
    process.brk = process.brkStart
    memory.map(room.top - room.stackSize, room.top, Protection.read | Protection.write, '[stack]')
    const entry = base + Number(header.entry)
    const auxiliary: Array<[number, number]> = [
      [3, headersAt], // AT_PHDR
      [4, 56],
      [5, header.programHeaderCount],
      [6, PAGE_SIZE],
      [7, 0], // AT_BASE
      [8, 0],
      [9, entry],
      ...identity(),
      [16, 0x178bfbff], // AT_HWCAP: CPUID 1 edx of the x86-64 baseline
      [17, 100], // AT_CLKTCK
      [23, 0], // AT_SECURE
    ]
    return { entry, stackPointer: writeStack(memory, room, file, argv, environment, auxiliary) }
  } finally {
    source.close()
  }
}

function refuseOtherKinds(header: ElfHeader, segments: readonly ProgramHeader[], file: string): void {
  if (header.machine !== EM.X86_64)
    throw new UsageError('the program is not for x86-64', { file, hint: 'guests are x86-64 programs' })
  if (segments.some(segment => segment.type === PT.INTERP))
    throw new UsageError('the program is dynamically linked', {
      file,
      hint: 'link it with -static (musl-gcc -static, or go build with CGO_ENABLED=0)',
    })
  if (header.type !== ET.EXEC && header.type !== ET.DYN)
    throw new UnreadableError('not an executable', { file })
}

/** glibc's start files bring this note. */
function isOfGlibc(source: FileSource, segment: ProgramHeader): boolean {
  return readNotes(source, segment).some(note => note.name === 'GNU' && note.type === NT_GNU_ABI_TAG)
}

function loadSegment(
  memory: GuestMemory,
  source: FileSource,
  segment: ProgramHeader,
  address: number,
  room: ProgramRoom,
): void {
  const file = source.path
  const end = address + segment.memorySize
  const highest = room.top - room.stackSize - PAGE_SIZE // a page apart from the stack
  if (address < room.lowest || end > highest)
    throw new UsageError('the program does not fit into the memory of the guest', {
      file,
      address: BigInt(address),
      expected: `addresses from 0x${room.lowest.toString(16)} to 0x${highest.toString(16)}`,
      hint:
        room.top === memory.memorySize
          ? 'give more memory: --memory 256M'
          : `link it lower: -Wl,-Ttext-segment=0x${room.lowest.toString(16)} -Wl,-z,max-page-size=4096`,
    })
  if (segment.fileSize > segment.memorySize)
    throw new UnreadableError('a segment is longer in the file than in memory', { file })
  if (segment.flags & PF.W && segment.flags & PF.X)
    throw new LossError('a segment of the program is writable and executable', {
      file,
      address: BigInt(address),
      hint: 'link it without -N; a guest may not write what it executes',
    })
  const start = pageDown(address)
  if (memory.mappings.within(start, alignUp(end, PAGE_SIZE)).length > 0)
    throw new UnreadableError('segments of the program share a page', { file, address: BigInt(start) })
  memory.map(start, alignUp(end, PAGE_SIZE), protectionOf(segment), 'program')
  source.readInto(memory.bytes.subarray(address, address + segment.fileSize), segment.offset)
}

function protectionOf({ flags }: ProgramHeader): number {
  return (
    (flags & PF.R ? Protection.read : 0) |
    (flags & PF.W ? Protection.write : 0) |
    (flags & PF.X ? Protection.execute : 0)
  )
}

function identity(): Array<[number, number]> {
  const ids = [process.getuid!(), process.geteuid!(), process.getgid!(), process.getegid!()]
  return ids.map((id, i) => [11 + i, id])
}

/** Fills the top of the stack; returns the stack pointer. */
function writeStack(
  memory: GuestMemory,
  room: ProgramRoom,
  file: string,
  argv: readonly string[],
  environment: readonly string[],
  auxiliary: ReadonlyArray<readonly [number, number]>,
): number {
  let at = room.top - 16
  const text = (value: string): number => {
    const bytes = Buffer.from(`${value}\0`)
    at -= bytes.length
    if (at < room.top - room.stackSize / 4)
      throw new UsageError('arguments and environment are too long for the stack')
    memory.bytes.set(bytes, at)
    return at
  }
  const program = text(file)
  const environmentAt = environment.map(text)
  const argvAt = argv.map(text)
  at -= 16
  const random = at
  memory.bytes.set(crypto.randomBytes(16), random)
  const words = [
    argv.length,
    ...argvAt,
    0,
    ...environmentAt,
    0,
    ...[...auxiliary, [25, random] as const, [31, program] as const, [0, 0] as const].flat(),
  ]
  const stackPointer = Math.floor((at - words.length * 8) / 16) * 16
  for (const [i, word] of words.entries()) memory.view.setBigUint64(stackPointer + i * 8, BigInt(word), true)
  return stackPointer
}
