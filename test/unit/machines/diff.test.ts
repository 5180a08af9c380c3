/** Two machine images of any formats, compared field by field; and what their page says with the symbols of a kernel. */
import fs from 'node:fs'
import path from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { machineImageJson, machineImageText } from '../../../src/cli/views/machine.js'
import { writeGem5 } from '../../../src/formats/gem5/machine.js'
import { writePalacios } from '../../../src/formats/palacios/machine.js'
import { readQemu } from '../../../src/formats/qemu/machine.js'
import { readImage } from '../../../src/formats/registry.js'
import type { MachineImage } from '../../../src/model/machine.js'
import { diffMachineImages } from '../../../src/model/machine-diff.js'
import { sharedFolder, temporaryFolder } from '../../helpers/temporary-folder.js'
import { qemuSample } from './samples.js'

const formats = ['qemu', 'gem5', 'gem5 of 2011', 'palacios', 'palacios, binary'] as const
const images = new Map<string, MachineImage>()

beforeAll(async () => {
  const folder = sharedFolder()
  const at = (name: string) => path.join(folder, name)
  const image = await readQemu(qemuSample('timer', folder))
  const timing = { apicClock: 1e9, paging: undefined }
  for (const era of ['v24', '2011'] as const)
    await writeGem5(image, at(era), { era, rawRam: true, ignoreFeatures: false })
  for (const form of ['text', 'binary'] as const) await writePalacios(image, at(form), { timing, form })
  for (const [i, name] of ['timer.qemu', 'v24', '2011', 'text', 'binary'].entries()) {
    const read = await readImage(at(name))
    if (read.kind === 'machine') images.set(formats[i]!, read.image)
  }
})

describe.each(formats)('%s', first => {
  test.each(
    formats,
  )('and %s: the same machine has the same registers, controllers and RAM; a change is found', second => {
    const [before, after] = [images.get(first)!, images.get(second)!]
    const { fields, memory, cpus } = diffMachineImages(before, after)
    expect([memory, cpus]).toEqual([[], undefined])
    const names = fields.map(({ field }) => field)
    expect(
      names.filter(name =>
        /^(cpu\.(general|rip|rflags|halted|control|segments|gdtr|idtr|xmm|msr\.efer)|ioApic)/.test(name),
      ),
    ).toEqual([])
    if (first === second) expect(names).toEqual([])

    const [cpu] = after.cpus
    const changed = {
      ...after,
      cpus: [{ ...cpu!, general: { ...cpu!.general, rbx: cpu!.general.rbx ^ 1n } }],
      memory: after.memory.patch(
        0x12000n,
        after.memory.read(0x12000n, 4096).map((byte, i) => (i === 0x345 ? byte ^ 1 : byte)),
      ),
    }
    const found = diffMachineImages(before, changed)
    expect(found.fields.map(({ field }) => field).filter(field => !names.includes(field))).toEqual([
      'cpu.general.rbx',
    ])
    expect(found.memory).toEqual([{ start: 0x12000n, pages: 1, change: 'changed' }])
  })
})

test('the page of a machine names the function it stands in, where the symbols of its kernel are given', async () => {
  const image = images.get('qemu')!
  const { rip } = image.cpus[0]!
  const vmlinux = path.join(temporaryFolder(), 'System.map')
  const line = (address: bigint, name: string) => `${address.toString(16).padStart(16, '0')} T ${name}\n`
  fs.writeFileSync(vmlinux, line(rip - 0x20n, 'wait_for_ever') + line(rip + 0x20n, 'next'))
  expect(await machineImageText(image, { vmlinux })).toContain(`0x${rip.toString(16)}  wait_for_ever+0x20`)
  expect(machineImageJson(image, { vmlinux })).toMatchObject({ functions: ['wait_for_ever+0x20'] })
})
