/** What the ScratchVM's block shows, taken from its own image. */
import { decodeSpecialRegisters, MSR, R } from '../../isa/x86-64-kvm.js'
import { readScratchRecord } from './model.js'
import { filePath } from './record.js'

/** The registers that it shows, in its order. */
const shown = ['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp', 'rip', 'rflags'] as const

export function blockOfScratch(path: string) {
  const { record, source } = readScratchRecord(path)
  source.close()
  const special = decodeSpecialRegisters(record.special)
  const names = new Map<number, string>(Object.entries(MSR).map(([name, index]) => [index, name]))
  const rip = record.registers[R.rip]!
  const end = Number(record.memorySize)
  return {
    registers: shown.map(name => [name.toUpperCase(), record.registers[R[name]]!] as const),
    special: (['cr0', 'cr3', 'cr4'] as const).map(name => [name.toUpperCase(), special[name]] as const),
    msrs: record.msrs
      .slice(0, record.msrCount)
      .map(({ index }) => [names.get(index) ?? 'MSR', index] as const),
    memorySize: record.memorySize,
    memoryBase: record.memoryBase,
    files: record.files.slice(0, record.fileCount).map(file => ({
      name: filePath(file),
      guestFd: file.guestFd,
      hostFd: file.hostFd,
      startAddress: BigInt(file.startAddress),
      offset: file.offset,
    })),
    rip,
    instructions:
      rip < record.memorySize
        ? record.memory.slice(Number(rip), Math.min(Number(rip) + 32, end))
        : new Uint8Array(),
  }
}
