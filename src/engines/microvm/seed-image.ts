/** The ScratchVM's `vm_image.sav` → a guest. The way back is formats/scratchvm/write.ts, from the guest's own image. */
import path from 'node:path'
import { SMALLEST_MEMORY } from '../../formats/microvm/guest-layout.js'
import { readScratchRecord } from '../../formats/scratchvm/model.js'
import {
  filePath,
  looksLikeScratch,
  type ScratchFile,
  type ScratchRecord,
  xsaveOfFpu,
} from '../../formats/scratchvm/record.js'
import { decodeSpecialRegisters, R } from '../../isa/x86-64-kvm.js'
import { KEPT_FLAGS, standsAtReturn, USER_END } from '../../isa/x86-64-program.js'
import { FileSource } from '../../lib/byte-source.js'
import { LossError, UnreadableError } from '../../lib/errors.js'
import { PAGE_SIZE } from '../../model/memory.js'
import type { CpuFactory, CpuState } from './cpu.js'
import { type Guest, type HostSide, newProcess } from './guest.js'
import { GuestMemory } from './guest-memory.js'
import { hostCall, NR } from './libc.js'
import { Protection } from './mappings.js'
import { O, OpenFiles } from './open-files.js'
import { replaceContent } from './replace-content.js'
import type { RestoreFilesOptions } from './restore-files.js'

const SEEK_SET = 0

/** Its memory lies flat at its own addresses, all of it writable and executable as it was there.
 * @throws UnreadableError, LossError */
export function restoreSeedGuest(
  image: string,
  makeCpu: CpuFactory,
  host: HostSide,
  options: RestoreFilesOptions,
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
  if (standsAtReturn(next)) {
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
function restoreFiles(record: ScratchRecord, image: string, options: RestoreFilesOptions): OpenFiles {
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

/** True when the file may be one by its size; the format has no magic. @throws UnreadableError when it cannot be read */
export function isSeedImage(image: string): boolean {
  const source = new FileSource(image)
  try {
    return looksLikeScratch(source.size, source.read(0, Math.min(4096, source.size)))
  } finally {
    source.close()
  }
}
