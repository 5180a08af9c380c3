import type { Command } from '../command.js'
import { columns } from '../output.js'

export const command: Command = {
  description:
    'Every field of every device as the stream itself describes them, also of devices that imago does not know; or of the devices whose name contains DEVICE.',
  arguments: [
    { name: 'stream', summary: 'a QEMU migration stream' },
    { name: 'device', summary: "a device's name, or a part of it: cpu, apic, e1000", optional: true },
  ],
  examples: [['imago qemu show booted apic', "the local APIC's fields"]],
  async run({ args, output }) {
    const { openStream } = await import('../../formats/qemu/read-stream.js')
    const { hex } = await import('../../lib/bytes.js')
    const { UsageError } = await import('../../lib/errors.js')
    const stream = openStream(args.stream!)
    const wanted = args.device ?? ''
    const devices = stream.devices.filter(device => device.title.includes(wanted))
    if (devices.length === 0)
      throw new UsageError(`no device is called '${wanted}'`, {
        expected: stream.devices.map(device => device.title).join(', '),
      })
    if (output.json) {
      output.value({
        machine: stream.machine,
        blocks: stream.blocks.map(({ name, size }) => ({ name, size })),
        devices: devices.map(device => ({
          name: device.name,
          instance: device.instance,
          version: device.version,
          fields: Object.fromEntries(device.fields.map(field => [field.path, device.value(field)])),
        })),
      })
      return
    }
    for (const device of devices) {
      output.line(`${device.title}  version ${device.version}, ${device.bytes.length} bytes`)
      const rows = device.fields.map(field => {
        const value = device.value(field)
        const text =
          typeof value === 'bigint'
            ? hex(value)
            : value instanceof Uint8Array
              ? Buffer.from(value.subarray(0, 32)).toString('hex') + (value.length > 32 ? '…' : '')
              : value.map(hex).join(' ')
        return [field.path, field.count === undefined ? field.type : `${field.type}[${field.count}]`, text]
      })
      if (rows.length > 0) output.line(columns(rows, { indent: '  ' }))
    }
  },
}
