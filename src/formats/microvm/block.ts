/** What the ScratchVM's block shows, taken from a microvm image. */
import { decodeSpecialRegisters, MSR, R } from '../../isa/x86-64-kvm.js'
import { openMicroVmFile } from './image-file.js'
import { fileKinds } from './record.js'

/** The registers that the ScratchVM shows, in its order. */
const shownRegisters = ['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp', 'rip', 'rflags'] as const

export function blockOfMicroVm(path: string) {
  const { source, record, memoryOffset } = openMicroVmFile(path)
  const { registers } = record.cpu
  const special = decodeSpecialRegisters(record.cpu.special)
  const names = new Map<number, string>(Object.entries(MSR).map(([name, index]) => [index, name]))
  const rip = registers[R.rip]!
  const mapping = record.mappings.find(m => m.start <= rip && rip < m.end)
  const there = mapping === undefined ? 0 : Number(mapping.end - rip)
  const instructions =
    there === 0 ? new Uint8Array() : source.read(memoryOffset + Number(rip), Math.min(32, there))
  source.close()
  return {
    registers: shownRegisters.map(name => [name.toUpperCase(), registers[R[name]]!] as const),
    special: (['cr0', 'cr3', 'cr4'] as const).map(name => [name.toUpperCase(), special[name]] as const),
    msrs: record.cpu.msrs
      .filter(({ index }) => index !== MSR.SFMASK)
      .map(({ index }) => [names.get(index) ?? 'MSR', index] as const),
    memorySize: record.usableBytes,
    memoryBase: 0n,
    files: record.descriptors
      .filter(d => fileKinds[record.files[d.file]!.kind] !== 'standard')
      .map(d => {
        const file = record.files[d.file]!
        return {
          name: file.name,
          guestFd: d.fd,
          hostFd: d.fd,
          startAddress: file.writtenFrom,
          offset: file.offset,
        }
      }),
    rip,
    instructions,
  }
}
