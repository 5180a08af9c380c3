import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { capture } from '../../../src/engines/qemu/capture.js'
import { Emulator } from '../../../src/engines/qemu/emulator.js'
import { DEFAULT_LINE, machineWords } from '../../../src/engines/qemu/machine-line.js'
import { templateGuest } from '../../../src/engines/qemu/template.js'
import { openStream } from '../../../src/formats/qemu/read-stream.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { imago, must } from '../../helpers/imago.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { needsQemu, readText, resumedWords, timerGuest, timerLines } from './guests.js'

/** A machine with much that gem5 and Palacios have not. */
const manyDevices = (disk: string) => [
  ...['-vga', 'std', '-device', 'e1000', '-device', 'virtio-net-pci', '-device', 'virtio-rng-pci'],
  ...['-drive', `file=${disk},format=raw,if=ide`, '-device', 'piix3-usb-uhci', '-device', 'usb-tablet'],
  ...['-drive', `file=${disk}2,format=raw,if=none,id=d`, '-device', 'virtio-blk-pci,drive=d'],
]

describe('a fresh capture with VGA, disks, network and USB', () => {
  const sizes = ['32M', '256M', '1G', '2G']
  it.for(
    sizes.slice(0, rounds(4, 2)),
  )('of %s is written back byte for byte, shown, and its losses named', (memory, context) => {
    needsQemu(context)
    const folder = temporaryFolder()
    const at = (name: string) => path.join(folder, name)
    for (const name of ['disk', 'disk2']) fs.writeFileSync(at(name), Buffer.alloc(1 << 20))
    must(
      ...['vm', 'capture', '--kernel', timerGuest, '--memory', memory, '--until', 'serial:n=2 '],
      ...['-o', at('image'), '--', ...manyDevices(at('disk'))],
    )
    const stream = openStream(at('image'))
    stream.write(at('again'))
    stream.source.close()
    expect(Buffer.compare(fs.readFileSync(at('image')), fs.readFileSync(at('again')))).toBe(0)
    const devices = stream.devices.map(device => device.name).join(' ')
    for (const name of ['vga', 'e1000', 'virtio-net', 'virtio-blk', 'ide', 'usb-ptr'])
      expect(devices).toContain(name)
    expect(must('inspect', at('image'))).toMatch(/e1000/)
    const { code, stdout } = imago(['convert', at('image'), '--to', 'gem5', '-o', at('gem5')])
    expect(code).toBe(0)
    expect(stdout).toMatch(/dropped.*e1000/s)
  })
})

describe('the moment of a capture', () => {
  it('is the very instruction that was asked for', async context => {
    needsQemu(context)
    const image = path.join(temporaryFolder(), 'image')
    must(
      ...['vm', 'capture', '--kernel', timerGuest, '--memory', '32M', '--icount'],
      ...['--until', 'instructions:5_712_345', '-o', image],
    )
    const stream = openStream(image)
    stream.source.close()
    expect(stream.requireDevice('timer').integer('timer/icount.qemu_icount')).toBe(5_712_345n)
    // It can be resumed, though it was stepped as by a debugger.
    expect(await resumedWords(image, /^n=\d+ .*\r?\n/m)).toMatch(/tsc=\d+/)
  })

  it('is the same machine byte for byte when the same instruction is asked for again', context => {
    needsQemu(context)
    const folder = temporaryFolder()
    const [first, second] = ['first', 'second'].map(name => path.join(folder, name)) as [string, string]
    for (const image of [first, second])
      must(
        ...['vm', 'capture', '--kernel', timerGuest, '--memory', '32M', '--icount'],
        ...['--until', 'instructions:2_000_000', '-o', image],
      )
    expect(Buffer.compare(fs.readFileSync(first), fs.readFileSync(second))).toBe(0)
  })

  it('comes at the same virtual time at each run, however slowly its serial line is read', async context => {
    needsQemu(context)
    const line = { ...DEFAULT_LINE, memory: 32 * 2 ** 20, icount: 0 }
    const texts: string[] = []
    for (const pauseMs of [0, 200]) {
      let text = ''
      const emulator = await Emulator.start(machineWords(line, { kernel: timerGuest }), {
        serial: bytes => {
          text += Buffer.from(bytes).toString('latin1')
          // Nothing is read meanwhile, and the guest prints thousands of lines a second.
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMs)
        },
      })
      try {
        await until('its thirtieth line', () => /^n=30 .*\r?\n/m.test(text))
      } finally {
        await emulator.stop()
      }
      texts.push(text.slice(0, text.indexOf('n=30 ')))
    }
    expect(texts[0]).toContain('tsc=')
    expect(texts[1]).toBe(texts[0])
  })

  it('is told how far it is while it is awaited', async context => {
    needsQemu(context)
    const told: [fraction: number, detail: string][] = []
    await capture({
      line: { ...DEFAULT_LINE, memory: 32 * 2 ** 20 },
      boot: { kernel: timerGuest },
      until: { kind: 'time', milliseconds: 200 },
      output: path.join(temporaryFolder(), 'image'),
      onProgress: (fraction, detail) => void told.push([fraction, detail]),
    })
    const waited = told.filter(([, detail]) => detail === 'waiting').map(([fraction]) => fraction)
    expect(waited.length).toBeGreaterThan(0)
    expect(waited).toEqual(waited.toSorted((a, b) => a - b))
    for (const [fraction] of told) expect(fraction).toBeGreaterThanOrEqual(0)
    for (const [fraction] of told) expect(fraction).toBeLessThanOrEqual(1)
  })

  it('cannot be an instruction without --icount, nor come when the guest is silent', context => {
    needsQemu(context)
    const folder = temporaryFolder()
    const capture = (...words: string[]) =>
      imago(['vm', 'capture', '--kernel', timerGuest, '-o', path.join(folder, 'image'), ...words])
    expect(capture('--until', 'instructions:5').code).toBe(2)
    const wrong = capture('--', '-device', 'no-such-device')
    expect([wrong.code, wrong.stderr]).toEqual([6, expect.stringContaining('no-such-device')])
    expect(fs.readdirSync(folder)).toEqual([])
  })
})

/** imago with `words`, its temporary files in `folder`, and how it ends: exit code and signal. */
function started(folder: string, ...words: string[]): { child: ChildProcess; ended: Promise<unknown[]> } {
  const child = spawn(path.join(packageRoot, 'imago'), words, {
    env: { ...process.env, TMPDIR: folder },
    stdio: 'ignore',
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  return { child, ended: once(child, 'close') }
}

/** Waits until `reached`. @throws Error when that takes too long. */
async function until(what: string, reached: () => boolean): Promise<void> {
  for (const end = performance.now() + 100_000; !reached(); await sleep(20))
    if (performance.now() > end) throw new Error(`waited in vain until ${what}`)
}

/** The QEMUs that a process has started. */
function emulatorsOf({ pid }: ChildProcess): number[] {
  const children = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ')
  return children
    .filter(child => child !== '' && /^qemu/.test(fs.readFileSync(`/proc/${child}/comm`, 'latin1')))
    .map(Number)
}

const lives = (pid: number) => fs.existsSync(`/proc/${pid}`)

describe('an interrupted capture', () => {
  it.for([
    'SIGINT',
    'SIGTERM',
  ] as const)('leaves neither an image nor a QEMU nor a temporary file (%s), even when QEMU hangs', async (signal, context) => {
    needsQemu(context)
    const folder = temporaryFolder()
    const serial = path.join(folder, 'serial')
    const { child, ended } = started(
      ...[folder, 'vm', 'capture', '--kernel', timerGuest, '--memory', '32M', '--until', 'serial:never'],
      ...['--serial', serial, '-o', path.join(folder, 'image')],
    )
    await until('the guest printed', () => fs.existsSync(serial) && readText(serial).includes('n=1 '))
    const [emulator] = emulatorsOf(child)
    if (signal === 'SIGTERM') process.kill(emulator!, 'SIGSTOP')
    child.kill(signal)
    expect(await ended).toEqual([130, null])
    expect(lives(emulator!)).toBe(false)
    expect(fs.readdirSync(folder)).toEqual(['serial'])
  })

  it('ends, with all that it started, while two machines are compared', async context => {
    needsQemu(context)
    const [folder, images] = [temporaryFolder(), temporaryFolder()]
    const image = path.join(images, 'image')
    must('vm', 'template', '--memory', '32M', '-o', image)
    const { child, ended } = started(folder, 'compare-run', image, image, '--steps', '1000000000')
    await until('both run', () => emulatorsOf(child).length === 2)
    const emulators = emulatorsOf(child)
    child.kill('SIGTERM')
    expect(await ended).toEqual([130, null])
    expect(emulators.filter(lives)).toEqual([])
    expect(fs.readdirSync(folder)).toEqual([])
  })
})

describe('a guest that sleeps for good', () => {
  it('is given up before it has executed the instructions that were asked for', context => {
    needsQemu(context)
    const folder = temporaryFolder()
    fs.writeFileSync(path.join(folder, 'guest'), templateGuest())
    const { code, stderr } = imago([
      ...['vm', 'capture', '--kernel', path.join(folder, 'guest'), '--memory', '32M', '--icount'],
      ...['--until', 'instructions:2_000_000_000', '--timeout', '1s', '-o', path.join(folder, 'image')],
    ])
    expect([code, stderr]).toEqual([6, expect.stringMatching(/sleeps, and nothing wakes it/)])
    expect(fs.readdirSync(folder)).toEqual(['guest'])
  })
})

describe('a captured machine', () => {
  it('goes on under vm resume, on the terminal, from the line after, until SIGTERM', async context => {
    needsQemu(context)
    const folder = temporaryFolder()
    const at = (name: string) => path.join(folder, name)
    must(
      ...['vm', 'capture', '--kernel', timerGuest, '--memory', '32M', '--serial', at('serial')],
      ...['--until', 'serial:n=2 pit', '-o', at('image')],
    )
    const child = spawn(path.join(packageRoot, 'imago'), ['vm', 'resume', at('image')])
    onTestFinished(() => void child.kill('SIGKILL'))
    const ended = once(child, 'close')
    const before = readText(at('serial'))
    let printed = ''
    child.stdout.on('data', bytes => {
      printed += bytes
    })
    const lines = () => timerLines(before + printed)
    await until('the fifth line', () => lines().has(5))
    expect([...lines().keys()].slice(0, 4)).toEqual([1, 2, 3, 4])
    child.kill('SIGTERM')
    expect(await ended).toEqual([0, null])
  })

  it('executes the same instructions when it was converted there and back, and other ones when a bit differs', context => {
    needsQemu(context)
    const folder = temporaryFolder()
    const at = (name: string) => path.join(folder, name)
    must(
      ...['vm', 'capture', '--kernel', timerGuest, '--memory', '32M', '--icount'],
      ...['--until', 'serial:n=2 ', '-o', at('image')],
    )
    must('convert', at('image'), '--to', 'gem5', '-o', at('gem5'))
    must('vm', 'template', '--memory', '32M', '--icount', '-o', at('template'))
    must('convert', at('gem5'), '--to', 'qemu', '--template', at('template'), '-o', at('back'))
    expect(must('compare-run', at('image'), at('back'), '--steps', '500')).toContain('the same for 500')

    const stream = openStream(at('image'))
    const cpu = stream.requireDevice('cpu')
    const registers = [...cpu.integers('env.regs')]
    registers[8]! ^= 1n << 40n
    stream.write(at('other'), { devices: [cpu.patched([['env.regs', registers]])] })
    stream.source.close()
    fs.copyFileSync(at('image.json'), at('other.json'))
    const differs = imago(['compare-run', at('image'), at('other')])
    expect([differs.code, differs.stdout]).toEqual([1, expect.stringMatching(/r8/)])
  })
})
