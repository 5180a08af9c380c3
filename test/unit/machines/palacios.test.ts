import fs from 'node:fs'
import path from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readGem5, writeGem5 } from '../../../src/formats/gem5/machine.js'
import { readTable, sameValue } from '../../../src/formats/machine-table.js'
import { PalaciosFields } from '../../../src/formats/palacios/fields.js'
import { blankContexts } from '../../../src/formats/palacios/layout.js'
import {
  palaciosOptions,
  readCheckpoint,
  readPalacios,
  writeContexts,
  writePalacios,
} from '../../../src/formats/palacios/machine.js'
import {
  formatBinary,
  formatText,
  newContext,
  parseBinary,
  parseText,
} from '../../../src/formats/palacios/records.js'
import { palaciosTable } from '../../../src/formats/palacios/table.js'
import { readQemu, writeQemu } from '../../../src/formats/qemu/machine.js'
import { ImagoError } from '../../../src/lib/errors.js'
import { getField, type MachineImage, machineLeaves } from '../../../src/model/machine.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { mutate } from './mutate.js'
import { gem5Sample, palaciosMemory, palaciosSample, qemuSample } from './samples.js'

const timing = { apicClock: 1e9, paging: undefined } as const
const keys = fs.readdirSync(palaciosSample)

describe('the records of a Palacios checkpoint', () => {
  test.each(keys)('context %s is written back byte for byte', key => {
    const bytes = fs.readFileSync(path.join(palaciosSample, key))
    expect(Buffer.from(formatText(parseText(bytes, key)))).toEqual(bytes)
  })

  test('a value over several lines, in capitals, and old bytes at the end stay as they are', () => {
    const text = '[k]\nA=0102\n 0A 0b\n\tC->d=FF\nold bytes'
    const context = parseText(Buffer.from(text), 'k')
    expect(context.records.map(({ tag, data }) => [tag, Buffer.from(data).toString('hex')])).toEqual([
      ['A', '01020a0b'],
      ['C->d', 'ff'],
    ])
    expect(Buffer.from(formatText(context)).toString()).toBe(text)
  })

  test('any records survive both forms', () => {
    const record = fc.tuple(
      fc.stringMatching(/^[A-Z][A-Za-z0-9_>-]{0,11}$/),
      fc.uint8Array({ maxLength: 40 }),
    )
    fc.assert(
      fc.property(fc.array(record), records => {
        const context = newContext('key', records)
        for (const again of [
          parseText(formatText(context), 'key'),
          parseBinary(formatBinary(context), 'key'),
        ])
          expect(again.records.map(({ tag, data }) => [tag, [...data]])).toEqual(
            records.map(([tag, data]) => [tag, [...data]]),
          )
      }),
    )
  })

  test('a file that does not begin with its own key is refused', () => {
    expect(() => parseText(Buffer.from('[other]\nA=00\n'), 'key')).toThrow(/\[key\]/)
  })

  test('a damaged context is refused or read, never a crash', () => {
    const forms = [
      { format: formatText, parse: parseText },
      { format: formatBinary, parse: parseBinary },
    ]
    const { contexts } = readCheckpoint(palaciosSample)
    for (let seed = 0; seed < rounds(10_000, 500); seed++) {
      const index = seed % contexts.length
      const { key } = contexts[index]!
      const { format, parse } = forms[seed & 1]!
      try {
        const damaged = parse(mutate(Buffer.from(format(contexts[index]!)), seed), key)
        readTable(palaciosTable, new PalaciosFields(contexts.with(index, damaged), timing))
      } catch (error) {
        if (!(error instanceof ImagoError)) throw error
      }
    }
  })
})

describe('checkpoints of older trees', () => {
  test('2012-12 without run state, CPL and FPU is read, and patched as it is', async () => {
    const folder = temporaryFolder()
    const { contexts } = readCheckpoint(palaciosSample)
    for (const context of contexts) {
      const old = /^(run_state|cpu_mode|mem_mode|CPL|FP_STATE_.*|COM\d_int_state|PIT_CH\d_LATCH_VALUE)$/
      context.records.splice(
        0,
        context.records.length,
        ...context.records.filter(({ tag }) => context.key === 'vmcb_data0' || !old.test(tag)),
      )
      for (const record of context.records)
        if (record.tag === 'GUEST_CR0') Object.assign(record, { tag: 'GUEST_CRO' })
    }
    const template = path.join(folder, 'old')
    fs.mkdirSync(template)
    writeContexts({ contexts, form: 'text' }, template)
    const image = await readQemu(qemuSample('timer', folder))
    await writePalacios(image, path.join(folder, 'new'), { timing, template })
    const before = fs.readFileSync(path.join(template, 'guest_info0'), 'latin1')
    const after = fs.readFileSync(path.join(folder, 'new/guest_info0'), 'latin1')
    const tags = (text: string) => text.split('\n').map(line => line.split('=')[0])
    expect(tags(after)).toEqual(tags(before))
    expect((await readPalacios(path.join(folder, 'new'), { timing })).cpus[0]!.general.rbp).toBe(
      image.cpus[0]!.general.rbp,
    )
  })
})

const stateOf = (image: MachineImage) => ({ cpu: image.cpus[0]!, devices: image.devices })
const differing = (a: MachineImage, b: MachineImage) =>
  [...machineLeaves.keys()].filter(
    field => !sameValue(getField(stateOf(a), field), getField(stateOf(b), field)),
  )

describe('the timer guest', () => {
  test('QEMU → Palacios equals the checkpoint that went on in gem5, tag by tag', async () => {
    const folder = temporaryFolder()
    const image = await readQemu(qemuSample('timer', folder))
    await writePalacios(image, path.join(folder, 'out'), { timing })
    const ours = readCheckpoint(path.join(folder, 'out')).contexts
    for (const context of readCheckpoint(palaciosSample).contexts) {
      const mine = ours.find(({ key }) => key === context.key)!
      expect(mine.records.map(({ tag }) => tag)).toEqual(context.records.map(({ tag }) => tag))
      const wrong = context.records
        .filter(
          ({ tag, data }) => Buffer.compare(mine.records.find(each => each.tag === tag)!.data, data) !== 0,
        )
        .map(({ tag }) => tag)
      // That one left out the PAT, the x87's last instruction, the keyboard's last byte and idle PIT channels; it rounds timers down.
      const known = ['VMCB_DATA', 'FP_STATE_BLOB', 'TMR_CUR_CNT0', 'PIT_COUNTER', 'PIT_RELOAD', 'OUTPUT']
      expect(wrong.filter(tag => !known.includes(tag) && !/^PIT_CH\d_/.test(tag))).toEqual([])
    }
    expect(fs.statSync(path.join(folder, 'out.mem')).size).toBe(32 * 2 ** 20)
  })

  test('RIP at the HLT of a sleeping core becomes halted behind it', async () => {
    const folder = temporaryFolder()
    const image = await readPalacios(palaciosSample, { timing, memory: palaciosMemory(folder) })
    expect(image.cpus[0]).toMatchObject({ halted: true, rip: 0x100781n })
  })

  test('without the memory a sleeping core cannot be told, and nothing else suffers', async () => {
    const image = await readPalacios(palaciosSample, { timing })
    expect(image.cpus[0]).toMatchObject({ halted: false, rip: 0x100780n })
  })

  test('QEMU → Palacios → QEMU keeps what both hold', async () => {
    const folder = temporaryFolder()
    const image = await readQemu(qemuSample('timer', folder))
    await writePalacios(image, path.join(folder, 'out'), { timing })
    const middle = await readPalacios(path.join(folder, 'out'), { timing })
    expect(middle.memory.byteCount).toBe(image.memory.byteCount)
    await writeQemu(middle, path.join(folder, 'back'), { template: qemuSample('busy', folder) })
    const back = await readQemu(path.join(folder, 'back'))
    const unheld =
      /^(cpu\.(mtrr|msr\.tscAux|tsc|xcr0|ymmHigh)|rtc|pciHost|keyboard|pic\.\w+\.lines|pit\.channels\.\d\.remaining|time)/
    expect(differing(image, back).filter(field => !unheld.test(field))).toEqual([])
    const left = (each: MachineImage) => Number(each.devices.pit!.channels[0]!.remaining!)
    expect(Math.abs(left(back) - left(image))).toBeLessThan(1_000_000)
    expect(back.memory.read(0x100000n, 0x10000)).toEqual(image.memory.read(0x100000n, 0x10000))
  })

  test('gem5 → Palacios → gem5 from the real sample', async () => {
    const folder = temporaryFolder()
    const image = await readGem5(gem5Sample('timer'))
    await writePalacios(image, path.join(folder, 'out'), { timing })
    const middle = await readPalacios(path.join(folder, 'out'), palaciosOptions({ options: {} }))
    await writeGem5(middle, path.join(folder, 'back'), {
      era: 'v24',
      rawRam: true,
      ignoreFeatures: false,
      skeleton: gem5Sample('timer'),
      tick: image.devices.time!,
    })
    const back = await readGem5(path.join(folder, 'back'))
    const unheld =
      /^(cpu\.(mtrr|msr\.tscAux|tsc|xcr0|apic\.timer\.rate)|rtc|pciHost|pic\.\w+\.lines|pit\.channels\.\d\.(remaining|gate|access)|keyboard\.(pending|scanning))/
    expect(differing(image, back).filter(field => !unheld.test(field))).toEqual([])
    expect(back.memory.read(0x100000n, 0x10000)).toEqual(image.memory.read(0x100000n, 0x10000))
  })
})

describe('control registers under shadow paging', () => {
  const withRegisters = (values: Record<string, bigint>, paging?: 'shadow' | 'nested') => {
    const fields = new PalaciosFields(blankContexts(), { apicClock: 1e9, paging })
    for (const [tag, value] of Object.entries(values)) fields.set(`guest/${tag}`, value)
    return readTable(palaciosTable, fields).cpu.control
  }
  const shadowed = {
    ...{ CR0: 0x80010001n, CR3: 0x7fff0000n },
    ...{ GUEST_CR0: 0x80000001n, GUEST_CR3: 0x1000n },
  }

  test('the guest’s own are taken where they differ and paging is on', () => {
    expect(withRegisters(shadowed)).toMatchObject({ cr0: 0x80000001n, cr3: 0x1000n })
  })
  test('nested paging leaves GUEST_* stale: --paging says so', () => {
    expect(withRegisters(shadowed, 'nested')).toMatchObject({ cr0: 0x80010001n, cr3: 0x7fff0000n })
  })
  test('a guest that never set CR3 uses the real ones', () => {
    expect(withRegisters({ ...shadowed, GUEST_CR3: 0n })).toMatchObject({ cr3: 0x7fff0000n })
  })
  test('SVME of the monitor is not the guest’s', () => {
    const fields = new PalaciosFields(blankContexts(), timing)
    fields.set('guest/EFER', 0x1500n)
    expect(readTable(palaciosTable, fields).cpu.msr.efer).toBe(0x500n)
  })
})

describe('memory in the checkpoint itself', () => {
  const ram = Uint8Array.from({ length: 3 * 4096 }, (_, i) => (i % 4096 === 7 ? i >> 8 : 0))
  const records = newContext('memory_img', [
    ['region_size', Buffer.from('0010000000000000', 'hex')],
    ['num_regions', Buffer.from('03000000', 'hex')],
    ...[0, 1, 2].map(i => [`memory_img${i}`, ram.subarray(i * 4096, (i + 1) * 4096)] as const),
  ])
  test.each(['text', 'binary'])('%s form', async form => {
    const folder = path.join(temporaryFolder(), 'checkpoint')
    fs.cpSync(palaciosSample, folder, { recursive: true })
    fs.writeFileSync(
      path.join(folder, 'memory_img'),
      form === 'text' ? formatText(records) : formatBinary(records),
    )
    const { memory } = await readPalacios(folder, { timing })
    expect(memory.byteCount).toBe(ram.length)
    expect(memory.read(0n, ram.length)).toEqual(ram)
  })
})
