/**
 * A program without a kernel → an image of the ScratchVM, which the original can run: its memory with the structures of
 * seed-layout.ts, standing at the sysretq of a system call where that is where it stands.
 */
import { R } from '../../isa/x86-64-kvm.js'
import { registersOfCpu, xsaveOfCpu } from '../../isa/x86-64-kvm-model.js'
import { KEPT_FLAGS } from '../../isa/x86-64-program.js'
import { writeFileAtomically, writeFully } from '../../lib/atomic-file.js'
import { LossError } from '../../lib/errors.js'
import type { HostedFile } from '../../model/hosted-program.js'
import type { MachineImage } from '../../model/machine.js'
import type { Loss } from '../format.js'
import {
  encodeScratch,
  fpuOfXsave,
  MEMORY_ROOM,
  MOST_FILES,
  MSR_ROOM,
  PATH_ROOM,
  type ScratchFile,
  type ScratchRecord,
} from './record.js'
import { SEED_MEMORY, SEED_RETURN, seedMsrs, seedSpecialRegisters, writeSeedArea } from './seed-layout.js'

/** @throws LossError when the struct has no field for something of the machine. */
export async function writeScratch(image: MachineImage, target: string): Promise<readonly Loss[]> {
  const bytes = encodeScratch(scratchRecordOf(image))
  writeFileAtomically(target, fd => writeFully(fd, bytes, 0))
  return image.origin.format === 'scratchvm' ? [] : lossesOf(image)
}

function scratchRecordOf(image: MachineImage): ScratchRecord {
  if (image.origin.format === 'scratchvm') return image.origin.raw as ScratchRecord
  refuseWhatIsLost(image)
  const cpu = image.cpus[0]!
  const registers = registersOfCpu(cpu)
  const flags = (registers[R.rflags]! & KEPT_FLAGS) | 2n
  // After a system call rcx and r11 hold rip and rflags, and the image can stand at the sysretq as the ScratchVM's do.
  const returning = registers[R.rcx] === registers[R.rip] && ((registers[R.r11]! & KEPT_FLAGS) | 2n) === flags
  registers[R.rflags] = flags
  if (returning) registers[R.rip] = SEED_RETURN
  const memory = new Uint8Array(MEMORY_ROOM)
  memory.set(image.memory.read(0n, SEED_MEMORY))
  writeSeedArea(memory)
  const files = image.program!.files.map(seedFile)
  return {
    registers,
    special: seedSpecialRegisters(returning ? 0 : 3, cpu.segments.fs.base, cpu.segments.gs.base),
    msrCount: seedMsrs.length,
    msrPadding: 0,
    msrs: Array.from({ length: MSR_ROOM }, (_, i) => ({
      index: seedMsrs[i]?.index ?? 0,
      reserved: 0,
      data: seedMsrs[i]?.value ?? 0n,
    })),
    fpu: fpuOfXsave(xsaveOfCpu(cpu)),
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

function seedFile({ fd, name, flags, offset, writtenFrom }: HostedFile): ScratchFile {
  const room = new Uint8Array(PATH_ROOM)
  room.set(Buffer.from(name, 'latin1'))
  return { guestFd: fd, hostFd: fd, flags, startAddress: Number(writtenFrom), offset, path: room }
}

/** Everything that the struct has no field for. @throws LossError */
function refuseWhatIsLost({ cpus, program, origin }: MachineImage): void {
  const refuse = (found: string): never => {
    throw new LossError('the guest does not fit into an image of the ScratchVM', {
      file: origin.path,
      found,
      expected: `a static program in the first ${SEED_MEMORY} bytes of memory, with open files only`,
    })
  }
  if (program === undefined || cpus.length !== 1) refuse('a machine with a kernel of its own')
  const { mappings, files, more } = program!
  const beyond = mappings.find(({ end, protection }) => protection !== 0 && end > BigInt(SEED_MEMORY))
  if (beyond !== undefined) refuse(`memory at 0x${beyond.start.toString(16)} (${beyond.name || 'anonymous'})`)
  const cpu = cpus[0]!
  if (cpu.extendedState !== undefined || cpu.ymmHigh.some(value => value !== 0n))
    refuse('AVX registers in use')
  if (more.length > 0) refuse(more[0]!)
  if (files.length > MOST_FILES) refuse(`${files.length} open files`)
  for (const { fd, name, writtenFrom } of files) {
    if (Buffer.byteLength(name, 'latin1') >= PATH_ROOM) refuse(`the path of descriptor ${fd} is too long`)
    if (writtenFrom >= BigInt(SEED_MEMORY)) refuse(`descriptor ${fd} was written from other memory`)
  }
}

/** What a restore of the ScratchVM's image can do without. */
function lossesOf({ program }: MachineImage): Loss[] {
  return [
    {
      kind: 'dropped',
      subject: 'memory',
      field: 'protection',
      detail: 'all of it is readable, writable and executable there',
    },
    ...program!.files.map(
      ({ fd, name }): Loss => ({
        kind: 'dropped',
        subject: `fd ${fd}`,
        field: 'size and time of the file',
        detail: `a change of ${name} is not noticed`,
      }),
    ),
  ]
}
