import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { lineFor, resume } from '../../../src/engines/qemu/resume.js'
import { saveMachine } from '../../../src/engines/qemu/save.js'
import { readQemu, writeQemu } from '../../../src/formats/qemu/machine.js'
import { openStream } from '../../../src/formats/qemu/read-stream.js'
import { must } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { gem5Sample, qemuSample } from '../../unit/machines/samples.js'
import { needsQemu, readText, resumedWords, timerGuest, timerLines } from './guests.js'

/** The guest's own lines up to n, from its beginning in QEMU: what every resumed machine must go on with. */
function reference(folder: string, n: number): Map<number, string> {
  const serial = path.join(folder, 'reference')
  must(
    ...['vm', 'capture', '--kernel', timerGuest, '--memory', '32M', '--icount', '--serial', serial],
    ...['--until', `serial:n=${n + 1} `, '-o', path.join(folder, 'unused')],
  )
  return timerLines(readText(serial))
}

describe('the timer guest, poured into a template of another processor mode, goes on with the same check values', () => {
  const cases = [
    ['as it was captured', 29, []],
    ['through gem5 and Palacios', 29, ['gem5', 'palacios']],
  ] as const

  it.for(cases)('the QEMU sample %s', async ([, next, ways], context) => {
    needsQemu(context)
    const folder = temporaryFolder()
    const template = path.join(folder, 'template')
    must('vm', 'template', '--memory', '32M', '-o', template)
    let image = qemuSample('timer', folder)
    for (const [i, way] of ways.entries()) {
      const to = path.join(folder, `way${i}`)
      must('convert', image, '--to', ...way.split(' '), '-o', to)
      image = to
    }
    const back = path.join(folder, 'back')
    must('convert', image, '--to', 'qemu', '--template', template, '-o', back)
    const lines = timerLines(await resumedWords(back, new RegExp(`^n=${next + 2} .*\\r?\\n`, 'm')))
    const expected = reference(folder, next + 2)
    expect([...lines.keys()].slice(0, 3)).toEqual([next, next + 1, next + 2])
    for (const n of lines.keys()) if (n <= next + 2) expect(lines.get(n)).toBe(expected.get(n))
  })

  it("gem5's own checkpoint, in QEMU", async context => {
    needsQemu(context)
    const folder = temporaryFolder()
    const template = path.join(folder, 'template')
    must('vm', 'template', '--memory', '32M', '--icount', '-o', template)
    const back = path.join(folder, 'back')
    must('convert', gem5Sample('timer'), '--to', 'qemu', '--template', template, '-o', back)
    const lines = timerLines(await resumedWords(back, /^n=13 .*\r?\n/m))
    const expected = reference(folder, 13)
    expect([...lines.keys()].slice(0, 3)).toEqual([11, 12, 13])
    for (const n of lines.keys())
      if (n <= 13)
        expect(lines.get(n)?.replace(/x87=\S+ /, '')).toBe(expected.get(n)?.replace(/x87=\S+ /, ''))
  })
})

describe('what a template lacks and QEMU writes only when it says something', () => {
  it('is loaded by QEMU: bytes that were being sent come out, those received and the x87 pointers are there', async context => {
    needsQemu(context)
    const folder = temporaryFolder()
    const at = (name: string) => path.join(folder, name)
    must('vm', 'template', '--memory', '32M', '-o', at('template'))
    const image = await readQemu(qemuSample('timer', folder))
    Object.assign(image.cpus[0]!.x87, { opcode: 0x123, instruction: 0x1234567890n, data: 0x4567n })
    const fifos = { transmitFifo: Buffer.from('BCD\n'), receiveFifo: Buffer.from('hello') }
    Object.assign(image.devices.serial!, fifos, {
      ...{ fifoControl: 0x81, lineStatus: 1, transmitting: 0x41 },
      ...{ interruptEnable: 7, interruptIdentification: 0xc4 },
    })
    const losses = await writeQemu(image, at('target'), { template: at('template') })
    expect(losses.map(({ subject, field }) => `${subject} ${field}`)).not.toContain(
      'serial port transmitFifo',
    )

    const stream = openStream(at('target'))
    stream.source.close()
    let sent = ''
    let arrived: () => void
    const whole = new Promise<void>(resolve => {
      arrived = resolve
    })
    // It stands still: nothing but its serial port works.
    const emulator = await resume(at('target'), {
      line: lineFor(at('target'), stream),
      paused: true,
      serial: bytes => {
        sent += Buffer.from(bytes).toString()
        if (sent.endsWith('\n')) arrived()
      },
    })
    try {
      await Promise.race([whole, sleep(60_000)])
      await saveMachine(emulator.qmp, at('saved'))
    } finally {
      await emulator.stop()
    }
    expect(sent).toBe('ABCD\n')
    const { cpus, devices } = await readQemu(at('saved'))
    expect(cpus[0]!.x87).toEqual(image.cpus[0]!.x87)
    expect(Buffer.from(devices.serial!.receiveFifo).toString()).toBe('hello')
    expect(devices.serial!.transmitting).toBeUndefined()
  })

  it('and a port whose line takes nothing loads as it was frozen', async context => {
    needsQemu(context)
    const folder = temporaryFolder()
    const at = (name: string) => path.join(folder, name)
    must('vm', 'template', '--memory', '32M', '-o', at('template'))
    const image = await readQemu(qemuSample('timer', folder))
    // As Palacios may say it: nothing sent, and the line not free.
    image.devices.serial!.lineStatus = 0
    await writeQemu(image, at('target'), { template: at('template') })
    const words = await resumedWords(at('target'), /^n=30 .*\r?\n/m)
    expect([...timerLines(words).keys()]).toContain(30)
  })
})
