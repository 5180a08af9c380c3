/** Subsections that a template lacks: added where its machine may have them, and the stream's description says so. */
import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { readTable } from '../../../src/formats/machine-table.js'
import { QemuFields } from '../../../src/formats/qemu/fields.js'
import { patchDevices, readQemu, writeQemu } from '../../../src/formats/qemu/machine.js'
import { openStream, readStream } from '../../../src/formats/qemu/read-stream.js'
import { qemuTable } from '../../../src/formats/qemu/table.js'
import { qemuSampleSource } from '../../helpers/qemu-samples.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { qemuSample } from '../machines/samples.js'

test('a machine with all that subsections hold loses none of it in a template without them', async () => {
  const folder = temporaryFolder()
  const [source, template] = [qemuSample('timer', folder), qemuSample('timer-min', folder)]
  const image = await readQemu(source)
  Object.assign(image.cpus[0]!.x87, { opcode: 0x123, instruction: 0x1234567890n, data: 0x4567n })
  Object.assign(image.devices.serial!, {
    fifoControl: 0x81,
    lineStatus: 1,
    transmitting: 0x41,
    transmitFifo: Buffer.from('BCD'),
    receiveFifo: Buffer.from('hello'),
  })
  const target = path.join(folder, 'target')
  const losses = await writeQemu(image, target, { template })
  const unexpected = losses.filter(({ subject }) => subject === 'CPU' || subject === 'serial port')
  expect(unexpected.map(({ field }) => field)).toEqual(['features'])

  const after = await readQemu(target)
  expect(after.cpus[0]!.x87).toEqual(image.cpus[0]!.x87)
  expect(after.devices.serial).toMatchObject({
    transmitting: 0x41,
    transmitFifo: new Uint8Array(Buffer.from('BCD')),
    receiveFifo: new Uint8Array(Buffer.from('hello')),
  })
  // It is a stream like any other: what QEMU calls subsections, in the structure that they belong to.
  const written = openStream(target)
  const names = JSON.stringify(written.requireDevice('serial').description)
  for (const name of ['tsr', 'xmit_fifo', 'recv_fifo', 'fifo_timeout_timer'])
    expect(names).toContain(`serial/${name}`)
  written.write(path.join(folder, 'again'))
  expect(Buffer.compare(fs.readFileSync(target), fs.readFileSync(path.join(folder, 'again')))).toBe(0)
})

test('a subsection that only newer machine types have goes into those alone', () => {
  for (const [name, held] of [
    ['timer', false],
    ['timer-10', true],
  ] as const) {
    const stream = readStream(qemuSampleSource(name))
    const state = readTable(qemuTable, QemuFields.of(stream))
    state.devices.pic!.slave.allLevel = true
    const { losses } = patchDevices(state, QemuFields.of(stream))
    expect([name, losses.some(({ field }) => field === 'slave.allLevel')]).toEqual([name, !held])
  }
})

test('a template gets no part that says nothing', () => {
  const stream = readStream(qemuSampleSource('timer-min'))
  const fields = QemuFields.of(stream)
  const state = readTable(qemuTable, fields)
  const { changed } = patchDevices({ ...state, cpu: { ...state.cpu, rip: 5n } }, fields)
  for (const device of changed)
    expect(device.bytes.length).toBe(stream.requireDevice(device.name, device.instance).bytes.length)
})

test('what the model does not know goes from stream to stream of the same machine, its timers with it', async () => {
  const folder = temporaryFolder()
  const [source, template] = [qemuSample('timer', folder), qemuSample('busy', folder)]
  const [changed, target] = [path.join(folder, 'changed'), path.join(folder, 'target')]
  const stream = openStream(source)
  const power = stream.requireDevice('0000:00:01.3/piix4_pm')
  const now = stream.requireDevice('timer').integer('cpu_clock_offset')
  const ide = stream.requireDevice('0000:00:01.1/ide')
  stream.write(changed, {
    devices: [power.patched([['ar.tmr.timer', now + 1234n]]), ide.patched([['bmdma[0].cmd', 9n]])],
  })
  const losses = await writeQemu(await readQemu(changed), target, { template })
  expect(losses.filter(({ field }) => field === 'all')).toEqual([])
  const after = openStream(target)
  expect(after.requireDevice('0000:00:01.1/ide').integer('bmdma[0].cmd')).toBe(9n)
  const later = after.requireDevice('timer').integer('cpu_clock_offset')
  expect(after.requireDevice('0000:00:01.3/piix4_pm').integer('ar.tmr.timer') - later).toBe(1234n)
  for (const { name, memory, size } of stream.blocks)
    if (name !== 'pc.ram')
      expect([name, Buffer.compare(after.block(name)!.memory.read(0n, size), memory.read(0n, size))]).toEqual(
        [name, 0],
      )
})
