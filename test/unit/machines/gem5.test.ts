import fs from 'node:fs'
import path from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { blankCheckpoint } from '../../../src/formats/gem5/blank-checkpoint.js'
import { CheckpointText } from '../../../src/formats/gem5/checkpoint-text.js'
import { readGem5, readState, writeGem5, writeState } from '../../../src/formats/gem5/machine.js'
import { readQemu, writeQemu } from '../../../src/formats/qemu/machine.js'
import { ImagoError } from '../../../src/lib/errors.js'
import { getField, initialCpu, machineLeaves, noDevices } from '../../../src/model/machine.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { mutate } from './mutate.js'
import { gem5Sample, qemuSample } from './samples.js'

const samples = ['timer', 'busy', 'se', 'skel128']
const plain = { era: 'v24', rawRam: false, ignoreFeatures: false } as const

describe('the text of a gem5 checkpoint', () => {
  test.each(samples)('%s is written back byte for byte', name => {
    const file = path.join(gem5Sample(name), 'm5.cpt')
    expect(CheckpointText.read(file).toString()).toBe(fs.readFileSync(file, 'latin1'))
  })

  test('any text of sections and keys is written back byte for byte', () => {
    const word = fc.stringMatching(/^[a-z][a-z0-9._]{0,8}$/)
    const line = fc.oneof(
      fc.tuple(word, fc.stringMatching(/^[ -~]{0,12}$/)).map(([key, value]) => `${key}=${value}`),
      fc.tuple(word, word).map(([key, value]) => `  ${key} += ${value}  `),
      word.map(name => `[${name}]`),
      fc.constantFrom('', '   ', '\t'),
    )
    fc.assert(
      fc.property(fc.array(line), lines => {
        const text = `# preamble\n[a]\n${lines.join('\n')}`
        expect(CheckpointText.fromString(text).toString()).toBe(text)
      }),
    )
  })

  test('a section opened again adds to the first, and += appends after a blank, as in gem5', () => {
    const text = CheckpointText.fromString('[a]\nx=1\ny=2\n[b]\n[a]\nx=3\ny+=4\nz=5\nz+=6')
    expect(text.get('a', 'x')).toBe('3')
    expect(text.get('a', 'z')).toBe('5 6')
  })

  test('a changed key changes its line only; a new key goes behind the last of its section', () => {
    const text = CheckpointText.fromString('[a]\nx=1\ny=2\n\n[b]\nz=3\n')
    text.set('a', 'x', '9')
    text.set('a', 'w', '0')
    expect(text.toString()).toBe('[a]\nx=9\ny=2\nw=0\n\n[b]\nz=3\n')
  })

  test('a line that is no key=value is refused with its number', () => {
    expect(() => CheckpointText.fromString('[a]\nx=1\nnonsense')).toThrow(/line 3/)
  })
})

describe('reading what gem5 itself wrote', () => {
  test('the timer guest: registers, flags, interrupt controllers and timers have the values that gem5 had', async () => {
    const image = await readGem5(gem5Sample('timer'))
    const { cpus, devices } = image
    const cpu = cpus[0]!
    expect(cpu.rip).toBe(0x100781n)
    expect(cpu.halted).toBe(true)
    expect(cpu.rflags).toBe(0x297n)
    expect(cpu.control.cr3).toBe(0x101000n)
    expect(cpu.segments.cs).toMatchObject({ selector: 8, attributes: 0xa09b })
    expect(cpu.segments.ss.selector).toBe(0x10)
    expect(cpu.apic?.lvt.timer).toBe(0x20021)
    expect(cpu.apic?.timer).toMatchObject({ initialCount: 1_000_000, remaining: 26_152_000n })
    expect(devices.ioApic?.redirection[2]).toBe(0x20n)
    expect(devices.pit?.channels[0]).toMatchObject({ reload: 11931, mode: 2, remaining: 9_865_607_680n })
    expect(devices.pic?.master).toMatchObject({ mask: 0xff, vectorBase: 0x40, single: false })
    expect(image.memory.byteCount).toBe(32 * 2 ** 20)
    // The guest prints its LCG state in RBP and its counter in R12.
    expect(cpu.general.r12).toBe(10n)
  })

  test('RAM is read from the gzipped store: the guest’s page table points to itself', async () => {
    const image = await readGem5(gem5Sample('timer'))
    expect(image.memory.readU64(0x101000n) & ~0xfffn).toBe(0x102000n)
  })
})

describe('the clocks of what gem5 itself wrote', () => {
  const readWith = async (config: string | undefined) => {
    const folder = temporaryFolder()
    fs.cpSync(gem5Sample('timer'), folder, { recursive: true })
    if (config !== undefined) fs.writeFileSync(path.join(folder, 'config.ini'), config)
    const { cpus, workedOut } = await readGem5(folder)
    return { cpu: cpus[0]!.tscRate, apic: cpus[0]!.apic!.timer.rate, guessed: [...(workedOut?.keys() ?? [])] }
  }
  const cpuClock = '[system.cpu_clk_domain]\nclock=500\n'

  test('stand in its config.ini: the APIC’s is the CPU’s divided, or one of its own', async () => {
    const divided = '[system.cpu.interrupts.clk_domain]\nclk_domain=system.cpu_clk_domain\nclk_divider=16\n'
    expect(await readWith(cpuClock + divided)).toEqual({ cpu: 2e9, apic: 1.25e8, guessed: [] })
    const own = '[system.cpu.interrupts.clk_domain]\nclk_domain=own\nclk_divider=1\n[own]\nclock=1000\n'
    expect(await readWith(cpuClock + own)).toEqual({ cpu: 2e9, apic: 1e9, guessed: [] })
  })

  test('are a guess without it, and told as one', async () => {
    expect(await readWith(undefined)).toEqual({
      cpu: 1e9,
      apic: undefined,
      guessed: ['cpu.tscRate', 'cpu.tsc'],
    })
  })
})

describe('a board of gem5’s standard library', () => {
  /** The real checkpoint under the names that a board gives: `board.`, and the core of a processor. */
  const board = (): string => {
    const folder = temporaryFolder()
    fs.cpSync(gem5Sample('timer'), folder, { recursive: true })
    const file = path.join(folder, 'm5.cpt')
    const text = fs.readFileSync(file, 'latin1')
    fs.writeFileSync(
      file,
      text
        .replaceAll(/^\[system\.cpu(?=[.\]])/gm, '[board.processor.cores.core')
        .replaceAll(/^\[system(?=[.\]])/gm, '[board'),
      'latin1',
    )
    return folder
  }

  test('is the same machine as under system.', async () => {
    const [plainOne, boardOne] = [await readGem5(gem5Sample('timer')), await readGem5(board())]
    expect(boardOne.cpus).toEqual(plainOne.cpus)
    expect(boardOne.devices).toEqual(plainOne.devices)
    expect(boardOne.origin.notes.cpu).toBe('board.processor.cores.core')
    expect(boardOne.memory.read(0x100000n, 0x1000)).toEqual(plainOne.memory.read(0x100000n, 0x1000))
  })

  test('takes another machine as a skeleton, and gets no section under system.', async () => {
    const image = await readQemu(qemuSample('timer', temporaryFolder()))
    const target = path.join(temporaryFolder(), 'out')
    await writeGem5(image, target, { ...plain, skeleton: board() })
    const text = CheckpointText.read(path.join(target, 'm5.cpt'))
    expect(text.names().filter(name => name.startsWith('system'))).toEqual([])
    expect(text.get('board.processor.cores.core.xc.0', '_pc')).toBe('1050497')
    expect(text.get('board.processor.cores.core.interrupts', 'regs')).toBe(
      text.get('board.processor.cores.core.xc.0', 'regs'),
    )
    expect((await readGem5(target)).cpus[0]!.general).toEqual(image.cpus[0]!.general)
  })
})

describe('writing gem5 checkpoints', () => {
  test.each([
    'timer',
    'busy',
  ])('%s written over itself keeps every field that the model holds', async name => {
    const folder = temporaryFolder()
    const image = await readGem5(gem5Sample(name))
    const target = path.join(folder, 'out')
    const losses = await writeGem5(image, target, { ...plain, skeleton: gem5Sample(name) })
    const again = await readGem5(target)
    for (const field of machineLeaves.keys()) {
      if (field.endsWith('.rate') || field === 'cpu.tscRate') continue
      const state = { cpu: image.cpus[0]!, devices: image.devices }
      expect([field, getField({ cpu: again.cpus[0]!, devices: again.devices }, field)]).toEqual([
        field,
        getField(state, field),
      ])
    }
    expect(
      losses.filter(({ kind }) => kind !== 'defaulted').map(({ subject, field }) => `${subject} ${field}`),
    ).toEqual(image.notUnderstood.map(device => `${device} all`))
    expect(again.memory.read(0x100000n, 0x8000)).toEqual(image.memory.read(0x100000n, 0x8000))
  })

  test('QEMU → gem5 without a skeleton equals what gem5 itself wrote, but for what the facts name', async () => {
    const folder = temporaryFolder()
    const image = await readQemu(qemuSample('timer', folder))
    await writeGem5(image, path.join(folder, 'out'), plain)
    const real = CheckpointText.read(path.join(gem5Sample('timer'), 'm5.cpt'))
    const ours = CheckpointText.read(path.join(folder, 'out/m5.cpt'))
    const differing = ours
      .names()
      .filter(name => name !== 'imago')
      .flatMap(name =>
        ours
          .keys(name)
          .filter(key => real.get(name, key) !== ours.get(name, key))
          .map(key => `${name} ${key}`),
      )
    const moment = [
      'curTick',
      'instCnt',
      'apicTimerEventTick',
      'pit.counter0.event_tick_offset',
      'rtc.clock_data',
    ]
    const registers = ['regs.integer', 'regs.floating_point', 'regs.condition_code']
    // SeaBIOS ran before the guest in QEMU and not in gem5: it leaves the RTC, the PIT's other channels and LVT LINT0/1.
    const firmware = [
      'regVal',
      'regs',
      'redirTableArray',
      'rtc.stat_regA',
      'rtc.stat_regB',
      'address',
      'commandByte',
    ]
    const others = [
      'statusReg',
      'id',
      'arbId',
      'lastCommand',
      'dataReg',
      'enabled',
      'MCR',
      'startedUp',
      'maskReg',
      'resolution',
      'sampleRate',
    ]
    const pit = [
      'pit.counter0.latch_on',
      'pit.counter1.mode',
      'pit.counter2.mode',
      'rtcTimerInterruptTickOffset',
    ]
    const named = new Set([
      ...moment,
      ...registers,
      ...firmware,
      ...others,
      ...pit,
      'rtcClockTickOffset',
      '_pc',
      '_npc',
    ])
    expect(differing.filter(each => !named.has(each.split(' ')[1]!))).toEqual([])
    // Every section and key that we write exists in gem5's own checkpoint, lists with the same length.
    for (const name of ours.names().filter(each => each !== 'imago'))
      for (const key of ours.keys(name)) {
        expect([name, key, real.get(name, key) !== undefined]).toEqual([name, key, true])
        if (key !== 'version_tags' && !key.startsWith('symtab'))
          expect([name, key, ours.get(name, key)!.split(' ').length]).toEqual([
            name,
            key,
            real.get(name, key)!.split(' ').length,
          ])
      }
    expect(ours.get('system.cpu.xc.0', '_pc')).toBe('1050497')
    expect(ours.get('system.cpu.xc.0', '_status')).toBe('1')
  })

  test('10. both copies of the local APIC are equal', async () => {
    const folder = temporaryFolder()
    const image = await readQemu(qemuSample('timer', folder))
    await writeGem5(image, path.join(folder, 'out'), plain)
    const text = CheckpointText.read(path.join(folder, 'out/m5.cpt'))
    for (const key of ['regs', 'IRRV', 'ISRV', 'apicTimerEventScheduled', 'apicTimerEventTick'])
      expect(text.get('system.cpu.interrupts', key)).toBe(text.get('system.cpu.xc.0', key))
    // 117,620 counts of 1 ns were left (the capture's own `info lapic`).
    const left =
      BigInt(text.get('system.cpu.xc.0', 'apicTimerEventTick')!) -
      BigInt(text.get('root.globals', 'curTick')!)
    expect(Number(left)).toBeGreaterThan(117_000_000)
    expect(Number(left)).toBeLessThan(118_000_000)
  })

  test('TLB entries of a skeleton are emptied, and no power state lies in the future', async () => {
    const folder = temporaryFolder()
    const image = await readQemu(qemuSample('timer', folder))
    await writeGem5(image, path.join(folder, 'out'), { ...plain, skeleton: gem5Sample('busy'), tick: 5n })
    const text = CheckpointText.read(path.join(folder, 'out/m5.cpt'))
    expect(text.names().filter(name => /tb\.Entry/.test(name))).toEqual([])
    expect(text.get('system.cpu.mmu.dtb', '_size')).toBe('0')
    for (const name of text.names()) expect(Number(text.get(name, 'prvEvalTick') ?? 0)).toBeLessThanOrEqual(5)
  })

  test('a skeleton with other RAM is refused, and nothing is written', async () => {
    const folder = temporaryFolder()
    const image = await readQemu(qemuSample('timer', folder))
    await expect(
      writeGem5(image, path.join(folder, 'out'), { ...plain, skeleton: gem5Sample('skel128') }),
    ).rejects.toThrow(/another amount of RAM/)
    expect(fs.existsSync(path.join(folder, 'out'))).toBe(false)
  })

  test('RFLAGS are split over the condition registers, in 2011 over integer register 32', () => {
    for (const era of ['v24', '2011'] as const)
      fc.assert(
        fc.property(fc.bigInt({ min: 0n, max: 0x3f7fd5n }), flags => {
          const text = blankCheckpoint(era)
          const rflags = (flags & 0x3d7fd5n) | 2n
          const state = { ...initialCpu(), rflags }
          const { losses } = writeState({ cpu: state, devices: noDevices() }, text, {
            cpuClock: 1e9,
            apicClock: undefined,
          })
          expect(losses.filter(({ field }) => field === 'rflags')).toEqual([])
        }),
        { numRuns: 50 },
      )
  })

  test('AVX in use is refused with the name of the feature', async () => {
    const folder = temporaryFolder()
    const image = await readQemu(qemuSample('timer', folder))
    image.cpus[0]!.xcr0 = 7n
    await expect(writeGem5(image, path.join(folder, 'out'), plain)).rejects.toThrow(/avx/)
  })
})

describe('QEMU → gem5 → QEMU', () => {
  test.each(['v24', '2011'] as const)('through %s nothing of the running guest is lost', async era => {
    const folder = temporaryFolder()
    const image = await readQemu(qemuSample('timer', folder))
    image.cpus[0]!.tscRate = 1e9
    await writeGem5(image, path.join(folder, 'out'), { ...plain, era })
    const middle = await readGem5(path.join(folder, 'out'))
    const losses = await writeQemu(middle, path.join(folder, 'back.qemu'), {
      template: qemuSample('busy', folder),
    })
    const back = await readQemu(path.join(folder, 'back.qemu'))
    const state = { cpu: image.cpus[0]!, devices: image.devices }
    const after = { cpu: back.cpus[0]!, devices: back.devices }
    const differing = [...machineLeaves.keys()].filter(
      field => !Object.is(getField(state, field), getField(after, field)),
    )
    // What gem5 does not hold at all; none of it is visible to a guest that does not use these devices.
    expect(
      differing.filter(
        field =>
          !/^(cpu\.x87\.registers|rtc|serial|keyboard|pic\.\w+\.(requested|lines|levelTriggered)|pit\.channels\.[12]|time|cpu\.tscRate)/.test(
            field,
          ),
      ),
    ).toEqual([])
    expect(after.cpu.tsc).toBe(state.cpu.tsc)
    expect(back.memory.read(0x100000n, 0x10000)).toEqual(image.memory.read(0x100000n, 0x10000))
    expect(losses.length).toBeGreaterThan(0)
  })
})

test('a text of more lines than any checkpoint has is refused before it fills the memory', () => {
  const chunk = Buffer.from('a=\n'.repeat(1 << 20))
  const endless = (function* () {
    yield Buffer.from('[a]\n')
    for (;;) yield chunk
  })()
  expect(() => CheckpointText.parse(endless)).toThrow(/too many lines/)
})

test('a damaged checkpoint is refused or read, never a crash', async () => {
  const text = fs.readFileSync(path.join(gem5Sample('timer'), 'm5.cpt'))
  for (let seed = 0; seed < rounds(10_000, 400); seed++)
    try {
      readState(CheckpointText.fromString(mutate(text, seed).toString('latin1')))
    } catch (error) {
      if (!(error instanceof ImagoError)) throw error
    }
})
