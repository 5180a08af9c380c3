/** Field by field, what two machine images of any formats say differently, and how many pages of RAM. */
import { getField, hasDeviceOf, type MachineImage, type MachineState, machineLeaves } from './machine.js'
import { differingPages, type PageRange } from './memory-diff.js'

export interface FieldDifference {
  /** `cpu.control.cr0`, `pit.channels.0.mode`; a device alone where only one image has it. */
  readonly field: string
  readonly before: unknown
  readonly after: unknown
}

export interface MachineDiff {
  /** Index of the CPU whose fields differ → the differences; device fields stand with CPU 0. */
  readonly fields: readonly (FieldDifference & { readonly cpu: number })[]
  /** Number of CPUs, where it differs. */
  readonly cpus: readonly [before: number, after: number] | undefined
  readonly memory: readonly PageRange[]
}

export function diffMachineImages(before: MachineImage, after: MachineImage): MachineDiff {
  const count = Math.min(before.cpus.length, after.cpus.length)
  const fields = Array.from({ length: count }, (_, cpu) =>
    diffStates(
      { cpu: before.cpus[cpu]!, devices: before.devices },
      { cpu: after.cpus[cpu]!, devices: after.devices },
    )
      .filter(({ field }) => cpu === 0 || field.startsWith('cpu.'))
      .map(difference => ({ ...difference, cpu })),
  ).flat()
  return {
    fields,
    cpus: before.cpus.length === after.cpus.length ? undefined : [before.cpus.length, after.cpus.length],
    memory: [...differingPages(before.memory, after.memory)],
  }
}

/** The same for one CPU and the devices. */
function diffStates(before: MachineState, after: MachineState): FieldDifference[] {
  const differences: FieldDifference[] = []
  const missing = new Set<string>()
  for (const field of machineLeaves.keys()) {
    const a = getField(before, field)
    const b = getField(after, field)
    if (a === b || (a instanceof Uint8Array && b instanceof Uint8Array && Buffer.compare(a, b) === 0))
      continue
    const held = [hasDeviceOf(before, field), hasDeviceOf(after, field)] as const
    if (held[0] === held[1]) differences.push({ field, before: a, after: b })
    else {
      const device = field.startsWith('cpu.apic.') ? 'cpu.apic' : field.split('.')[0]!
      if (missing.has(device)) continue
      missing.add(device)
      differences.push({
        field: device,
        before: held[0] ? 'present' : undefined,
        after: held[1] ? 'present' : undefined,
      })
    }
  }
  return [...differences, ...pciDifferences(before, after)]
}

function pciDifferences(before: MachineState, after: MachineState): FieldDifference[] {
  const [a, b] = [before.devices.pciFunctions, after.devices.pciFunctions]
  return [...new Set([...(a?.keys() ?? []), ...(b?.keys() ?? [])])].sort().flatMap(address => {
    const values = { before: a?.get(address), after: b?.get(address) }
    const same = values.before && values.after && Buffer.compare(values.before, values.after) === 0
    return same ? [] : [{ field: `pciFunctions.${address}`, ...values }]
  })
}
