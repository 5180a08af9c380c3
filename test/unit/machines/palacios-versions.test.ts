/** Palacios checkpoints as trees of 2012-12 to 2017 write them, on AMD and on Intel, with the memory beside or inside. */
import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { readTable } from '../../../src/formats/machine-table.js'
import { PalaciosFields } from '../../../src/formats/palacios/fields.js'
import { blankContexts } from '../../../src/formats/palacios/layout.js'
import {
  patchContexts,
  readCheckpoint,
  readPalacios,
  writeContexts,
  writePalacios,
} from '../../../src/formats/palacios/machine.js'
import { type Context, newContext } from '../../../src/formats/palacios/records.js'
import { palaciosTable } from '../../../src/formats/palacios/table.js'
import { readQemu } from '../../../src/formats/qemu/machine.js'
import type { MachineImage } from '../../../src/model/machine.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { palaciosMemory, palaciosSample, qemuSample } from './samples.js'

const timing = { apicClock: 1e9, paging: undefined } as const

/** When a tag came. The VMCB's own CPL is as old as the format. */
const since: readonly (readonly [date: string, tags: RegExp])[] = [
  ['2013-03', /^run_state$/],
  ['2013-05', /^PIT_CH\d_LATCH_VALUE$/],
  ['2013-08', /^COM\d_(int_state|[RT]X_(HEAD|TAIL|FULL|DATA))$/],
  ['2013-10', /^FP_STATE_/],
  ['2014-01', /^(cpu_mode|mem_mode|CPL)$/],
]

/** The sample as a tree of that date would have written it. */
function asOf(date: string): Context[] {
  const { contexts } = readCheckpoint(palaciosSample)
  for (const { key, records } of contexts) {
    const kept = records.filter(
      ({ tag }) => key === 'vmcb_data0' || !since.some(([came, tags]) => date < came && tags.test(tag)),
    )
    records.splice(0, records.length, ...kept)
    for (const record of records)
      if (date <= '2013-05' && record.tag === 'GUEST_CR0') Object.assign(record, { tag: 'GUEST_CRO' })
  }
  return contexts
}

describe.each([
  '2012-12',
  '2013-05',
  '2013-08',
  '2013-10',
  '2014-01',
  '2017-06',
])('a checkpoint of %s', date => {
  test('has the same machine in it, but for what that tree did not save', () => {
    const state = readTable(palaciosTable, new PalaciosFields(asOf(date), timing))
    const now = readTable(palaciosTable, new PalaciosFields(asOf('2017-06'), timing))
    expect(state.cpu.general).toEqual(now.cpu.general)
    expect(state.cpu.segments).toEqual(now.cpu.segments)
    expect(state.cpu.control).toEqual(now.cpu.control)
    expect(state.cpu.apic).toEqual(now.cpu.apic)
    expect(state.devices.pic).toEqual(now.devices.pic)
    expect(state.devices.serial?.divisor).toBe(now.devices.serial?.divisor)
    if (date < '2013-10') expect(state.cpu.xmm.every(value => value === 0n)).toBe(true)
    else expect(state.cpu.xmm).toEqual(now.cpu.xmm)
  })

  test('takes another machine without a tag more or less, and tells what it has no tag for', async () => {
    const contexts = asOf(date)
    const tags = () =>
      contexts.map(({ key, records }) => [key, records.map(({ tag, data }) => [tag, data.length])])
    const before = tags()
    const image = await readQemu(qemuSample('timer', temporaryFolder()))
    image.cpus[0]!.xmm[3] = 7n
    const losses = patchContexts(image, contexts, timing)
    expect(tags()).toEqual(before)
    const again = readTable(palaciosTable, new PalaciosFields(contexts, timing))
    expect(again.cpu.general).toEqual(image.cpus[0]!.general)
    const lostSse = losses.some(({ subject, field }) => subject === 'CPU' && field === 'xmm.3')
    expect(lostSse).toBe(date < '2013-10')
  })
})

describe('a checkpoint of an Intel host', () => {
  const vmx = () => [
    ...asOf('2017-06').filter(({ key }) => key !== 'vmcb_data0'),
    newContext('vmcs_data0', [['vmcs_data', new Uint8Array(4096).fill(0xa5)]]),
  ]

  test('is read; CSTAR, SYSENTER and PAT are nowhere in it', async () => {
    const folder = temporaryFolder()
    writeContexts({ contexts: vmx(), form: 'binary' }, folder)
    const image = await readPalacios(folder, { timing, memory: palaciosMemory(temporaryFolder()) })
    expect(image.origin.notes).toMatchObject({ monitor: 'VMX', form: 'file' })
    expect(image.cpus[0]!.msr).toMatchObject({ cstar: undefined, sysenterEip: undefined, pat: undefined })
    expect(image.cpus[0]!.general.rbp).not.toBe(0n)
  })

  test('takes another machine; its VMCS stays byte for byte, and what would go there is told as lost', async () => {
    const contexts = vmx()
    const image = await readQemu(qemuSample('timer', temporaryFolder()))
    image.cpus[0]!.msr.sysenterEip = 0x1234n
    const losses = patchContexts(image, contexts, timing)
    expect(losses).toContainEqual({
      kind: 'dropped',
      subject: 'CPU',
      field: 'msr.sysenterEip',
      detail: '0x1234',
    })
    expect(contexts.find(({ key }) => key === 'vmcs_data0')!.records[0]!.data).toEqual(
      new Uint8Array(4096).fill(0xa5),
    )
  })
})

describe('what is beside Palacios’ own contexts', () => {
  const timer = () => readQemu(qemuSample('timer', temporaryFolder()))
  const written = async (
    options: { form?: 'text' | 'binary'; memoryInside?: boolean },
    image: MachineImage,
  ) => {
    const target = path.join(temporaryFolder(), 'v3')
    return { target, losses: await writePalacios(image, target, { timing, ...options }) }
  }

  test.each([
    'text',
    'binary',
  ] as const)('the memory goes into the %s form as memory_img and comes back', async form => {
    const image = await timer()
    const { target } = await written({ form, memoryInside: true }, image)
    expect(fs.existsSync(`${target}.mem`)).toBe(false)
    const back = await readPalacios(target, { timing })
    expect(back.memory.byteCount).toBe(image.memory.byteCount)
    for (const at of [0n, 0x100000n, 0x1f00000n])
      expect(Buffer.from(back.memory.read(at, 0x10000))).toEqual(Buffer.from(image.memory.read(at, 0x10000)))
    expect(back.cpus[0]).toMatchObject({ halted: true, rip: 0x100781n })
  })

  test('memory of many blocks is as many regions, as Palacios allots it', async () => {
    const image = await timer()
    const length = 256 * 2 ** 20
    const { Memory, ZERO } = await import('../../../src/model/memory.js')
    const memory = Memory.from([{ address: 0n, length, content: ZERO }]).overlay([
      { address: 0x8000000n, length: 4, content: { kind: 'bytes', bytes: Uint8Array.of(1, 2, 3, 4) } },
    ])
    const { target } = await written({ form: 'binary', memoryInside: true }, { ...image, memory })
    const head = fs.readFileSync(path.join(target, 'memory_img')).subarray(0, 200).toString('latin1')
    expect(head).toContain('num_regions')
    const back = await readPalacios(target, { timing })
    expect(back.memory.byteCount).toBe(length)
    expect([...back.memory.read(0x8000000n, 4)]).toEqual([1, 2, 3, 4])
    // Holes, not zeros.
    expect(fs.statSync(path.join(target, 'memory_img')).blocks * 512).toBeLessThan(4 * 2 ** 20)
  })

  test('the TSC, XCR0, virtual time, CMOS and CPU features come back from imago’s own context', async () => {
    const image: MachineImage = { ...(await timer()), cpuFeatures: new Set(['sse2', 'rdtscp']) }
    image.cpus[0]!.tscRate = 2_600_000_000
    const { target, losses } = await written({}, image)
    const back = await readPalacios(target, { timing })
    expect(back.cpus[0]).toMatchObject({
      tsc: image.cpus[0]!.tsc,
      tscRate: 2_600_000_000,
      xcr0: image.cpus[0]!.xcr0,
    })
    expect(back.devices.time).toBe(image.devices.time)
    expect(back.devices.rtc?.cmos).toEqual(image.devices.rtc?.cmos)
    expect([...back.cpuFeatures!]).toEqual(['sse2', 'rdtscp'])
    expect(back.notUnderstood).toEqual([])
    // Palacios itself loses them all the same, and the report is about Palacios.
    expect(losses.map(({ subject, field }) => `${subject} ${field}`)).toEqual(
      expect.arrayContaining(['CPU tsc', 'RTC all']),
    )
  })

  test('a PCI function that both sides have crosses, another at its address is told', async () => {
    const image = await timer()
    const contexts = blankContexts()
    const bridge = new Uint8Array(256)
    bridge.set([0x86, 0x80, 0x37, 0x12])
    const other = new Uint8Array(256).fill(9)
    contexts.push(
      newContext('pci0-0.0-0', [['CONFIG_SPACE', bridge]]),
      newContext('pci0-0.1-1', [['CONFIG_SPACE', other]]),
    )
    const losses = patchContexts(image, contexts, timing)
    const held = new PalaciosFields(contexts, timing).pciFunctions()
    expect(held.get('00:00.0')!.data).toEqual(image.devices.pciFunctions!.get('00:00.0'))
    expect(held.get('00:01.1')!.data).toEqual(other)
    const pci = losses.filter(({ subject }) => subject.startsWith('PCI 00:'))
    expect(pci.map(({ subject }) => subject)).toEqual([
      'PCI 00:01.0',
      'PCI 00:02.0',
      'PCI 00:01.1',
      'PCI 00:01.3',
    ])
    expect(pci[2]!.detail).toContain('8086:7010 IDE controller; there is 0909:0909')
  })
})
