/** Records of a microvm image → the neutral machine. Memory is pointed to where it lies in the file. */

import { cpuOfKvm } from '../../isa/x86-64-kvm-model.js'
import { type MachineImage, noDevices } from '../../model/machine.js'
import { type Extent, Memory } from '../../model/memory.js'
import { openMicroVmFile } from './image-file.js'
import { fileKinds } from './record.js'

export function readMicroVm(path: string): MachineImage {
  const { source, record, memoryOffset } = openMicroVmFile(path)
  const extents: Extent[] = []
  let at = 0n
  const zeros = (end: bigint) => {
    if (end > at) extents.push({ address: at, length: Number(end - at), content: { kind: 'zero' } })
  }
  for (const { address, length } of record.extents) {
    zeros(address)
    const offset = memoryOffset + Number(address)
    extents.push({ address, length: Number(length), content: { kind: 'slice', source, offset } })
    at = address + length
  }
  zeros(record.memoryBytes)
  const files = record.descriptors
    .filter(({ file }) => fileKinds[record.files[file]!.kind] !== 'standard')
    .map(({ fd, file }) => `fd ${fd}: ${record.files[file]!.name} at ${record.files[file]!.offset}`)
  return {
    isa: 'x86-64',
    memory: Memory.from(extents),
    cpus: [cpuOfKvm(record.cpu)],
    devices: noDevices(),
    notUnderstood: [],
    ...(record.cpu.features === '' ? {} : { cpuFeatures: new Set(record.cpu.features.split(' ')) }),
    origin: {
      format: 'microvm',
      path,
      notes: {
        program: record.process.name,
        engine: record.process.engine,
        root: record.process.rootFolder,
        'saved at': new Date(Number(record.process.savedAt / 1_000_000n)).toISOString(),
        ...(files.length > 0 ? { 'open files': files.join(', ') } : {}),
      },
      raw: record,
    },
  }
}
