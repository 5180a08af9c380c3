/** What `imago verify` finds in machine images: each rule on a real sample with that one thing made wrong. */
import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { CheckpointText } from '../../../src/formats/gem5/checkpoint-text.js'
import { writeGem5 } from '../../../src/formats/gem5/machine.js'
import { verifyGem5 } from '../../../src/formats/gem5/verify.js'
import { verifyPalacios } from '../../../src/formats/palacios/verify.js'
import { QemuFields } from '../../../src/formats/qemu/fields.js'
import { readQemu } from '../../../src/formats/qemu/machine.js'
import { openStream } from '../../../src/formats/qemu/read-stream.js'
import { verifyQemu } from '../../../src/formats/qemu/verify.js'
import { verifyMachineImage } from '../../../src/isa/x86-machine-verify.js'
import { setField } from '../../../src/model/machine.js'
import { Memory, ZERO } from '../../../src/model/memory.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { gem5Sample, palaciosSample, qemuSample } from './samples.js'

describe('gem5', () => {
  test.each(['timer', 'busy', 'se', 'skel128'])('%s, which gem5 wrote, is sound', name => {
    expect(verifyGem5(gem5Sample(name))).toEqual([])
  })

  test.each(['v24', '2011'] as const)('what imago writes for %s is sound', async era => {
    const folder = path.join(temporaryFolder(), 'out')
    const image = await readQemu(qemuSample('timer', temporaryFolder()))
    await writeGem5(image, folder, { era, rawRam: true, ignoreFeatures: false })
    expect(verifyGem5(folder)).toEqual([])
  })

  const change = (section: string, key: string, to: (old: string) => string): string[] => {
    const folder = temporaryFolder()
    fs.cpSync(gem5Sample('timer'), folder, { recursive: true })
    const text = CheckpointText.read(path.join(folder, 'm5.cpt'))
    text.set(section, key, to(text.get(section, key)!))
    text.write(path.join(folder, 'm5.cpt'))
    return verifyGem5(folder)
  }
  const setAt = (index: number, value: string) => (old: string) => old.split(' ').with(index, value).join(' ')

  test.each([
    ['system.cpu.xc.0', 'IRRV', () => '33', /IRRV is 33, the highest vector in IRR is 0/],
    ['system.cpu.interrupts', 'ISRV', () => '33', /copies of the local APIC .* differ in 'ISRV'/],
    [
      'system.cpu.xc.0',
      'regs.integer',
      (old: string) => old.slice(0, -2),
      /'regs.integer' has 311 elements; gem5 expects 312/,
    ],
    ['system.cpu.isa', 'regVal', setAt(179, String(0x9b90)), /attributes of CS/],
    ['root.globals', 'curTick', () => '999999999999999', /due at tick .*, before curTick/],
    ['system.cpu.mmu.itb', '_size', () => '9', /counts 9 translations/],
    ['system.physmem.store0', 'filename', () => 'm5.cpt', undefined],
  ] as const)('[%s] %s made wrong is found', (section, key, to, expected) => {
    const problems = change(section, key, to)
    if (expected === undefined) expect(problems).toEqual([])
    else expect(problems.join('\n')).toMatch(expected)
  })
})

test('a store of gem5 that is larger than its range is found, and one that is not there', async () => {
  const folder = path.join(temporaryFolder(), 'out')
  const image = await readQemu(qemuSample('timer', temporaryFolder()))
  await writeGem5(image, folder, { era: 'v24', rawRam: true, ignoreFeatures: false })
  const [store] = fs.readdirSync(folder).filter(name => name.endsWith('.pmem'))
  const bytes = image.memory.byteCount
  fs.truncateSync(path.join(folder, store!), bytes + 4096)
  expect(verifyGem5(folder)).toEqual([`${store} has ${bytes + 4096} bytes, its range ${bytes}`])
  fs.rmSync(path.join(folder, store!))
  expect(verifyGem5(folder)).toEqual([`${store}, which holds RAM, is not there`])
})

describe('Palacios', () => {
  const change = (key: string, to: (text: string) => string): string[] => {
    const folder = temporaryFolder()
    fs.cpSync(palaciosSample, folder, { recursive: true })
    const file = path.join(folder, key)
    fs.writeFileSync(file, to(fs.readFileSync(file, 'latin1')), 'latin1')
    return verifyPalacios(folder)
  }

  test('the sample is sound', () => {
    expect(verifyPalacios(palaciosSample)).toEqual([])
  })

  test.each([
    [
      'guest_info0',
      (text: string) => text.replace(/^(RDI=.*\n)(RSI=.*\n)/m, '$2$1'),
      /RDI does not follow RSI/,
    ],
    ['guest_info0', (text: string) => text.replace(/^CR3=/m, 'CR3=00'), /CR3 has 9 bytes; Palacios reads 8/],
    ['guest_info0', (text: string) => text.replace(/^CPL=00/m, 'CPL=03'), /CPL is 3, the DPL of SS 0/],
    ['guest_info0', (text: string) => text.replace(/^CR8=../m, 'CR8=07'), /CR8 is 7, the task priority 0x0/],
    [
      'devices',
      (text: string) => text.replace(/^names=../m, 'names=58'),
      /device 'X\w+' is listed and has no context/,
    ],
    [
      'devices',
      (text: string) => text.replace(/^num_devs=../m, 'num_devs=01'),
      /names \d devices and counts 1/,
    ],
  ] as const)('%s made wrong is found', (key, to, expected) => {
    expect(change(key, to).join('\n')).toMatch(expected)
  })
})

describe('QEMU', () => {
  const change = (field: string, value: bigint): string[] => {
    const folder = temporaryFolder()
    const stream = openStream(qemuSample('timer', folder))
    const fields = QemuFields.of(stream)
    fields.set(field, value)
    const changed = path.join(folder, 'changed')
    stream.write(changed, { devices: fields.patched() })
    stream.source.close()
    return verifyQemu(changed)
  }
  test('every sample is sound', () => {
    for (const name of ['timer', 'busy', 'timer-min', 'timer-10', 'tmpl128'])
      expect([name, verifyQemu(qemuSample(name, temporaryFolder()))]).toEqual([name, []])
  })
  test.each([
    ['cpu/env.hflags', 0n, /another mode/],
    ['apic/count_shift', 5n, /divides by 32, its register says 1/],
    ['apic/timer_expiry', 1n, /was due/],
  ] as const)('%s made wrong is found', (field, value, expected) => {
    expect(change(field, value).join('\n')).toMatch(expected)
  })
})

describe('any machine', () => {
  test.each([
    ['EFER.LMA', 'cpu.msr.efer', 0x100n],
    ['paging without protection', 'cpu.control.cr0', 0x80000010n],
    ['long mode without CR4.PAE', 'cpu.control.cr4', 0x600n],
    ['RFLAGS bit 1 is clear', 'cpu.rflags', 0n],
    ['RFLAGS.VM in long mode', 'cpu.rflags', 0x20002n],
    ['CR3 .* points outside RAM', 'cpu.control.cr3', 1n << 40n],
    ['RIP .* is not mapped', 'cpu.rip', 0x7fff00000000n],
    ['no code segment', 'cpu.segments.cs.attributes', 0xc093],
    ['CS has both L and D', 'cpu.segments.cs.attributes', 0xe09b],
    ['SS has DPL 3, CS 0', 'cpu.segments.ss.attributes', 0xc0f3],
    ['not present and yet usable', 'cpu.segments.gs.attributes', 0x13],
    ['requests a vector below 16', 'cpu.apic.requested.0', 4],
    ['serves a vector below 16', 'cpu.apic.inService.0', 4],
    ['counts from 0', 'pit.channels.1.reload', 0],
    ['runs with an initial count of 0', 'cpu.apic.timer.initialCount', 0],
    ['more time left', 'cpu.apic.timer.remaining', 10n ** 16n],
    ['no multiple of 8', 'pic.slave.vectorBase', 3],
    ['open with vector 2', 'ioApic.redirection.5', 2n],
  ] as const)('%s is found', async (expected, field, value) => {
    expect((await problems({ [field]: value })).join('\n')).toMatch(new RegExp(expected))
  })

  test('requests to an APIC that is disabled are found', async () => {
    const disabled = { 'cpu.apic.spurious': 0xff, 'cpu.apic.requested.1': 1 }
    expect(await problems(disabled)).toEqual(['the local APIC is disabled and has requests'])
  })

  test('RAM that is not there, or not whole pages, is found', async () => {
    expect(await problems({}, Memory.empty)).toEqual(['the image holds no RAM'])
    const odd = Memory.from([{ address: 0n, length: 0x2000100, content: ZERO }])
    expect((await problems({}, odd))[0]).toMatch(/RIP .* is not mapped/)
    expect((await problems({}, odd))[1]).toBe('RAM of 33554688 bytes at 0x0 is not whole pages')
  })

  /** Of the timer guest with these fields, and this RAM. */
  async function problems(fields: Readonly<Record<string, unknown>>, memory?: Memory): Promise<string[]> {
    const image = await readQemu(qemuSample('timer', temporaryFolder()))
    image.cpus[0]!.apic!.timer.rate = 1e9
    expect(verifyMachineImage(image)).toEqual([])
    for (const [field, value] of Object.entries(fields))
      setField({ cpu: image.cpus[0]!, devices: image.devices }, field, value)
    return verifyMachineImage(memory === undefined ? image : { ...image, memory })
  }
})
