/** Records of a ScratchVM image → the neutral machine. Memory is pointed to where it lies in the file. */
import { cpuOfKvm } from '../../isa/x86-64-kvm-model.js'
import { FileSource } from '../../lib/byte-source.js'
import { type MachineImage, noDevices } from '../../model/machine.js'
import { Memory } from '../../model/memory.js'
import {
  decodeScratch,
  filePath,
  IMAGE_SIZE,
  MEMORY_OFFSET,
  type ScratchRecord,
  xsaveOfFpu,
} from './record.js'

export function readScratchRecord(path: string): { record: ScratchRecord; source: FileSource } {
  const source = new FileSource(path)
  return { source, record: decodeScratch(source.read(0, Math.min(source.size, IMAGE_SIZE + 1)), path) }
}

/** @throws UnreadableError */
export function readScratch(path: string): MachineImage {
  const { record, source } = readScratchRecord(path)
  const open = record.files.slice(0, record.fileCount)
  return {
    isa: 'x86-64',
    memory: Memory.from([
      {
        address: 0n,
        length: Number(record.memorySize),
        content: { kind: 'slice', source, offset: MEMORY_OFFSET },
      },
    ]),
    cpus: [
      cpuOfKvm({
        registers: record.registers,
        special: record.special,
        msrs: record.msrs.slice(0, record.msrCount).map(({ index, data }) => ({ index, value: data })),
        xcr0: 3n,
        xsave: xsaveOfFpu(record.fpu),
      }),
    ],
    devices: noDevices(),
    notUnderstood: [],
    program: {
      name: path.split('/').at(-1)!,
      memorySize: Number(record.memorySize),
      mappings: [{ start: 0n, end: record.memorySize, protection: 7, name: 'program' }],
      files: open.map(file => ({
        fd: file.guestFd,
        name: filePath(file),
        flags: file.flags,
        offset: file.offset,
        writtenFrom: BigInt(file.startAddress),
      })),
      more: [],
    },
    origin: {
      format: 'scratchvm',
      path,
      notes: {
        'open files':
          open.map(file => `fd ${file.guestFd}: ${filePath(file)} at ${file.offset}`).join(', ') || 'none',
      },
      raw: record,
    },
  }
}
