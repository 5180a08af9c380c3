/** Records of a microvm image → the neutral machine. Memory is pointed to where it lies in the file. */

import { cpuOfKvm } from '../../isa/x86-64-kvm-model.js'
import { type MachineImage, noDevices } from '../../model/machine.js'
import { type Extent, Memory } from '../../model/memory.js'
import { openMicroVmFile } from './image-file.js'
import { fileKinds, type MicroVmRecord } from './record.js'

/** @throws UnreadableError */
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
    program: {
      name: record.process.name,
      memorySize: Number(record.usableBytes),
      mappings: record.mappings,
      files: record.descriptors.flatMap(({ fd, file }) => {
        const { kind, name, flags, offset, writtenFrom } = record.files[file]!
        return fileKinds[kind] === 'regular' ? [{ fd, name, flags, offset, writtenFrom }] : []
      }),
      more: whatElse(record),
    },
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

/** What of a guest is more than memory, CPU and open files by path. */
function whatElse(record: MicroVmRecord): string[] {
  const { process, signals, files, descriptors, realTimer, cpuTime } = record
  const more: string[] = []
  if (signals.length > 0 || process.pendingSignals !== 0n || process.signalMask !== 0n)
    more.push('handlers, masks or pending ones of signals')
  if (realTimer !== undefined) more.push('a running timer')
  if (cpuTime !== undefined && (cpuTime.virtual.left > 0n || cpuTime.profiling.left > 0n))
    more.push('a running timer of CPU time')
  if (process.waitLeft >= 0n) more.push('a wait that was cut short')
  if (record.timers !== undefined) more.push('a timer of timer_create')
  if (record.locks !== undefined) more.push('a lock of a file')
  if (process.workingDirectory !== '/') more.push(`another current folder, ${process.workingDirectory}`)
  for (const fd of [0, 1, 2]) {
    const descriptor = descriptors.find(candidate => candidate.fd === fd)
    if (descriptor === undefined || fileKinds[files[descriptor.file]!.kind] !== 'standard')
      more.push(`descriptor ${fd} is no standard stream`)
  }
  for (const { fd, file } of descriptors.filter(({ fd }) => fd > 2)) {
    const kind = fileKinds[files[file]!.kind]
    if (kind !== 'regular') more.push(`descriptor ${fd} is a ${kind}`)
    else if (descriptors.filter(other => other.file === file).length > 1)
      more.push(`descriptor ${fd} shares its file with another`)
  }
  return more
}
