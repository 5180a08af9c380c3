import fs from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { openStream } from '../../../src/formats/qemu/read-stream.js'
import { formatNamed, readImage } from '../../../src/formats/registry.js'
import { type QemuSample, qemuSample } from '../../helpers/qemu-samples.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

it.each([
  ['timer', 'timer-10'],
  ['timer-10', 'timer'],
] as const)('a machine of the sample %s is poured into the template %s of another QEMU', async (from, into) => {
  const folder = temporaryFolder()
  const file = (name: QemuSample) => {
    fs.writeFileSync(path.join(folder, name), qemuSample(name))
    return path.join(folder, name)
  }
  const source = file(from)
  const template = file(into)
  const target = path.join(folder, 'target')
  const read = await readImage(source)
  const qemu = formatNamed('qemu')
  if (read.kind !== 'machine' || qemu.kind !== 'machine') throw new Error('no machine')
  await qemu.write!(read.image, target, { options: { template } })

  const [before, after] = [openStream(source), openStream(target)]
  expect(after.machine).toBe(openStream(template).machine)
  const state = after.requireDevice('globalstate').get('runstate') as Uint8Array
  expect(Buffer.from(state).toString('latin1').split('\0')[0]).toBe('running')
  for (const field of ['env.regs', 'env.eip', 'env.cr[3]', 'env.hflags'])
    expect(after.requireDevice('cpu').get(field)).toEqual(before.requireDevice('cpu').get(field))
  const page = (stream: typeof before) => stream.block('pc.ram')!.memory.read(0x100000n, 4096)
  expect(page(after)).toEqual(page(before))
})
