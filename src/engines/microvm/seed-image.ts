/** A guest ⇄ the ScratchVM's `vm_image.sav`. */
import fs from 'node:fs'
import path from 'node:path'
import { readScratchRecord } from '../../formats/scratchvm/model.js'
import {
  encodeScratch,
  filePath,
  fpuOfXsave,
  looksLikeScratch,
  MEMORY_ROOM,
  MOST_FILES,
  MSR_ROOM,
  PATH_ROOM,
  type ScratchFile,
  type ScratchRecord,
  xsaveOfFpu,
} from '../../formats/scratchvm/record.js'
import { decodeSpecialRegisters, R } from '../../isa/x86-64-kvm.js'
import { writeFileAtomically, writeFully } from '../../lib/atomic-file.js'
import { isZero } from '../../lib/bytes.js'
import { LossError, UnreadableError } from '../../lib/errors.js'
import { PAGE_SIZE } from '../../model/memory.js'
import type { CpuFactory, CpuState } from './cpu.js'
import { type Guest, type HostSide, newProcess } from './guest.js'
import { GuestMemory } from './guest-memory.js'
import { SMALLEST_MEMORY } from './layout.js'
import { hostCall, NR } from './libc.js'
import { Protection } from './mappings.js'
import { O, type OpenFile, OpenFiles } from './open-files.js'
import { type RestoreGuestOptions, replaceContent, USER_END } from './restore.js'
import { KEPT_FLAGS } from './save.js'
import {
  SEED_MEMORY,
  SEED_RETURN,
  SYSRET,
  seedMsrs,
  seedSpecialRegisters,
  writeSeedArea,
} from './seed-layout.js'

const SEEK_SET = 0
const SEEK_CUR = 1
/** Upper halves of YMM and what follows: struct kvm_fpu has no room for them. */
const XSAVE_EXTENDED = 576

/** Its memory lies flat at its own addresses, all of it writable and executable as it was there.
 * @throws UnreadableError, LossError */
export function restoreSeedGuest(
  image: string,
  makeCpu: CpuFactory,
  host: HostSide,
  options: RestoreGuestOptions,
): Guest {
  const { record, source } = readScratchRecord(image)
  source.close()
  const state = stateOf(record, image)
  const files = restoreFiles(record, image, options)
  const memory = GuestMemory.create(SMALLEST_MEMORY)
  const size = Number(record.memorySize)
  const end = Math.ceil(size / PAGE_SIZE) * PAGE_SIZE
  memory.map(0, end, Protection.read | Protection.write | Protection.execute, 'program')
  memory.bytes.set(record.memory.subarray(0, size))
  const cpu = makeCpu(memory)
  cpu.writeState(state)
  const process = newProcess(path.basename(image))
  process.brkStart = end
  process.brk = end
  return { memory, cpu, files, process, host }
}

/** The program's own state. The ScratchVM saves within its system call handler, at the `sysretq`: that is undone here. */
function stateOf(record: ScratchRecord, file: string): CpuState {
  const registers = record.registers.slice()
  const special = decodeSpecialRegisters(record.special)
  const rip = registers[R.rip]!
  const next =
    rip < record.memorySize ? record.memory.subarray(Number(rip), Number(rip) + 4) : new Uint8Array()
  const atHalt = next[0] === 0xf4 && SYSRET.equals(next.subarray(1))
  if (atHalt || SYSRET.equals(next.subarray(0, 3))) {
    registers[R.rip] = registers[R.rcx]!
    registers[R.rflags] = registers[R.r11]!
  } else if (special.segments.cs.dpl !== 3 || special.segments.cs.l !== 1)
    throw new UnreadableError('this guest was saved outside of its program', {
      file,
      address: rip,
      found: Buffer.from(next).toString('hex'),
      expected: 'sysretq (480f07), or 64-bit ring 3',
    })
  if (registers[R.rip]! >= record.memorySize)
    throw new UnreadableError('the program would go on outside of its memory', {
      file,
      address: registers[R.rip],
    })
  registers[R.rflags] = (registers[R.rflags]! & KEPT_FLAGS) | 2n
  const { fs: fsSegment, gs: gsSegment } = special.segments
  if (fsSegment.base >= USER_END || gsSegment.base >= USER_END)
    throw new UnreadableError('a segment base is no user address', { file })
  return {
    registers,
    fsBase: fsSegment.base,
    gsBase: gsSegment.base,
    xsave: xsaveOfFpu(record.fpu),
    xcr0: 3n,
  }
}

/** The image knows of a file its path, flags and offset: it must be there, and reach to its offset. */
function restoreFiles(record: ScratchRecord, image: string, options: RestoreGuestOptions): OpenFiles {
  const files = new OpenFiles(options.rootFolder ?? '.', options.readOnly)
  try {
    files.connectStandardStreams()
    for (const file of record.files.slice(0, record.fileCount)) {
      const name = filePath(file)
      if (name === '' || file.guestFd < 0 || file.guestFd >= 1024)
        throw new UnreadableError('an open file has no path or no descriptor', {
          file: image,
          found: file.guestFd,
        })
      const at = files.absolute(name)
      if (options.files === 'restore-content') restoreContent(record, file, at, files, image)
      const opened = files.openHost(at, file.flags & ~(O.CREAT | O.EXCL | O.TRUNC), 0, name)
      const fail = (found: string): never => {
        if (typeof opened !== 'number') hostCall(NR.close, opened.hostFd)
        throw new LossError(`the open file ${name} is not as it was`, {
          file: path.join(files.rootFolder, at),
          found,
          hint: '--files=restore-content writes it anew from the memory of the guest, as the ScratchVM does',
        })
      }
      if (typeof opened === 'number') return fail(`it cannot be opened (errno ${-opened})`)
      const { size } = OpenFiles.describe(opened.hostFd)
      if (options.files === 'refuse' && size < file.offset)
        fail(`${size} bytes now, at least ${file.offset} bytes at the save`)
      if (hostCall(NR.lseek, opened.hostFd, file.offset, SEEK_SET) < 0) fail('its offset cannot be set')
      files.close(file.guestFd)
      files.place(file.guestFd, {
        ...opened,
        flags: file.flags,
        ...(file.startAddress > 0 ? { writtenFrom: BigInt(file.startAddress) } : {}),
      })
    }
    return files
  } catch (error) {
    files.release()
    throw error
  }
}

/** What the ScratchVM does: the bytes before the offset are written again from where the guest wrote them. */
function restoreContent(
  record: ScratchRecord,
  file: ScratchFile,
  at: string,
  files: OpenFiles,
  image: string,
): void {
  if (file.startAddress === 0 && file.offset > 0n)
    throw new LossError(`the image does not say where the content of ${filePath(file)} stood`, {
      file: image,
    })
  if (BigInt(file.startAddress) + file.offset > record.memorySize)
    throw new UnreadableError(`the content of ${filePath(file)} lies outside of memory`, {
      file: image,
      address: BigInt(file.startAddress),
    })
  const content = record.memory.subarray(file.startAddress, file.startAddress + Number(file.offset))
  replaceContent(files, at, filePath(file), 0o644, [content])
}

/** Writes `vm_image.sav` and `mem2.txt` (the memory as it is) into `folder`. @throws LossError when the guest does not fit. */
export function saveSeedGuest(guest: Guest, folder: string): void {
  const record = seedRecordOf(guest)
  const write = (name: string, bytes: Uint8Array) =>
    writeFileAtomically(path.join(folder, name), fd => writeFully(fd, bytes, 0))
  write('vm_image.sav', encodeScratch(record))
  write('mem2.txt', record.memory.subarray(0, SEED_MEMORY))
}

function seedRecordOf(guest: Guest): ScratchRecord {
  const state = guest.cpu.readState()
  refuseWhatIsLost(guest, state)
  const registers = state.registers.slice()
  const flags = (registers[R.rflags]! & KEPT_FLAGS) | 2n
  // After a system call rcx and r11 hold rip and rflags, and the image can stand at the sysretq as the ScratchVM's do.
  const returning = registers[R.rcx] === registers[R.rip] && ((registers[R.r11]! & KEPT_FLAGS) | 2n) === flags
  registers[R.rflags] = flags
  if (returning) registers[R.rip] = SEED_RETURN
  const memory = new Uint8Array(MEMORY_ROOM)
  memory.set(guest.memory.bytes.subarray(0, SEED_MEMORY))
  writeSeedArea(memory)
  const files = [...guest.files.descriptors]
    .filter(([, { file }]) => file.kind !== 'standard')
    .map(([fd, { file }]) => seedFile(fd, file))
  return {
    registers,
    special: seedSpecialRegisters(returning ? 0 : 3, state.fsBase, state.gsBase),
    msrCount: seedMsrs.length,
    msrPadding: 0,
    msrs: Array.from({ length: MSR_ROOM }, (_, i) => ({
      index: seedMsrs[i]?.index ?? 0,
      reserved: 0,
      data: seedMsrs[i]?.value ?? 0n,
    })),
    fpu: fpuOfXsave(state.xsave),
    memorySize: BigInt(SEED_MEMORY),
    memoryBase: 0n,
    memory,
    fileCount: files.length,
    padding: new Uint8Array(7),
    files: Array.from({ length: MOST_FILES }, (_, i) => files[i] ?? noFile()),
  }
}

const noFile = (): ScratchFile => ({
  ...{ guestFd: 0, hostFd: 0, flags: 0, startAddress: 0, offset: 0n },
  path: new Uint8Array(PATH_ROOM),
})

function seedFile(guestFd: number, file: OpenFile): ScratchFile {
  const room = new Uint8Array(PATH_ROOM)
  room.set(Buffer.from(file.name, 'latin1'))
  return {
    guestFd,
    hostFd: file.hostFd,
    flags: file.flags,
    startAddress: Number(file.writtenFrom ?? 0n),
    offset: BigInt(hostCall(NR.lseek, file.hostFd, 0, SEEK_CUR)),
    path: room,
  }
}

/** Everything of a guest that the struct has no field for. @throws LossError */
function refuseWhatIsLost(guest: Guest, state: CpuState): void {
  const { memory, files, process } = guest
  const refuse = (found: string, hint?: string): never => {
    throw new LossError('the guest does not fit into an image of the ScratchVM', {
      found,
      expected: `a static program in the first ${SEED_MEMORY} bytes of memory, with open files only`,
      hint,
    })
  }
  const beyond = memory.mappings.list.find(mapping => mapping.end > SEED_MEMORY)
  if (beyond !== undefined) refuse(`memory at 0x${beyond.start.toString(16)} (${beyond.name || 'anonymous'})`)
  const view = new DataView(state.xsave.buffer, state.xsave.byteOffset, state.xsave.length)
  if ((view.getBigUint64(512, true) & ~3n) !== 0n && !isZero(state.xsave.subarray(XSAVE_EXTENDED)))
    refuse('AVX registers in use')
  if (process.realTimer !== undefined) refuse('a running timer')
  if (process.actions.size > 0 || process.pendingSignals !== 0n || process.signalMask !== 0n)
    refuse('handlers, masks or pending ones of signals')
  if (files.workingDirectory !== '/') refuse(`another current folder, ${files.workingDirectory}`)
  for (const fd of [0, 1, 2])
    if (files.get(fd)?.kind !== 'standard') refuse(`descriptor ${fd} is no standard stream`)
  const open = [...files.descriptors].filter(([fd]) => fd > 2)
  if (open.length > MOST_FILES) refuse(`${open.length} open files`)
  for (const [fd, { file }] of open) {
    if (file.kind !== 'regular') refuse(`descriptor ${fd} is a ${file.kind}`)
    if (file.references > 1) refuse(`descriptor ${fd} shares its file with another`)
    if (Buffer.byteLength(file.name, 'latin1') >= PATH_ROOM)
      refuse(`the path of descriptor ${fd} is too long`)
    if ((file.writtenFrom ?? 0n) >= BigInt(SEED_MEMORY))
      refuse(`descriptor ${fd} was written from other memory`)
  }
}

/** True when the file may be one by its size; the format has no magic. */
export function isSeedImage(image: string): boolean {
  const head = new Uint8Array(4096)
  const fd = fs.openSync(image, 'r')
  try {
    return looksLikeScratch(fs.fstatSync(fd).size, head.subarray(0, fs.readSync(fd, head, 0, head.length, 0)))
  } finally {
    fs.closeSync(fd)
  }
}
