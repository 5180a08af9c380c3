/**
 * What the neutral machine has no place for (IDE, VGA, network, ACPI), from one stream into another of the same machine:
 * a device's state as it is, the contents of its memory, and its timers moved to the other's clock.
 */
import type { Memory } from '../../model/memory.js'
import type { StateDescription } from './description.js'
import type { DeviceState } from './device-state.js'
import type { QemuStream } from './stream.js'
import { isUnderstood } from './table.js'

/** Both have the same RAM blocks and machine type: command lines that differ in the clock or the processor at most. */
function sameMachine(a: QemuStream, b: QemuStream): boolean {
  const shape = ({ machine, blocks }: QemuStream) => [
    machine,
    ...blocks.map(({ name, size }) => `${name} ${size}`),
  ]
  return shape(a).join() === shape(b).join()
}

/** The devices of `template` that the model does not know, as `source` has them. */
export function unmodelledDevices(source: QemuStream, template: QemuStream): DeviceState[] {
  if (!sameMachine(source, template)) return []
  return template.devices.flatMap(({ name, instance, version, description }) => {
    const own = isUnderstood(name) ? undefined : source.device(name, instance)
    const fits = own?.version === version && fieldsOf(own.description) === fieldsOf(description)
    return fits ? [own] : []
  })
}

/** The memory of devices: every block but the guest's RAM. */
export function unmodelledBlocks(source: QemuStream, template: QemuStream, ram: string): Map<string, Memory> {
  if (!sameMachine(source, template)) return new Map()
  return new Map(source.blocks.flatMap(({ name, memory }) => (name === ram ? [] : [[name, memory]])))
}

/** The same state when `shift` nanoseconds more have passed. */
export function withTimersMoved(device: DeviceState, shift: bigint): DeviceState {
  return device.patched(
    device.fields.flatMap(({ path, type }) => {
      const due = type === 'timer' ? device.get(path) : undefined
      return typeof due === 'bigint' && due !== OFF ? [[path, due + shift]] : []
    }),
  )
}
const OFF = -1n

/** Names, types and sizes of the fields that are always there. */
function fieldsOf({ fields }: StateDescription): string {
  return JSON.stringify(
    (fields ?? []).map(({ name, type, size, array_len, struct }) => [
      ...[name, type, size, array_len],
      struct && fieldsOf(struct),
    ]),
  )
}
