import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { openStream } from '../../../src/formats/qemu/stream.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { imago } from '../../helpers/imago.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { must, needsQemu, readText, timerGuest, timerLines } from './guests.js'

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
  it('is the very instruction that was asked for', context => {
    needsQemu(context)
    const image = path.join(temporaryFolder(), 'image')
    must(
      ...['vm', 'capture', '--kernel', timerGuest, '--memory', '32M', '--icount'],
      ...['--until', 'instructions:1_234_567', '-o', image],
    )
    const stream = openStream(image)
    stream.source.close()
    expect(stream.requireDevice('timer').integer('timer/icount.qemu_icount')).toBe(1_234_567n)
  })

  it('is the same machine byte for byte when the same instruction is asked for again', context => {
    needsQemu(context)
    const folder = temporaryFolder()
    const [first, second] = ['first', 'second'].map(name => path.join(folder, name)) as [string, string]
    for (const image of [first, second])
      must(
        ...['vm', 'capture', '--kernel', timerGuest, '--memory', '32M', '--icount'],
        ...['--until', 'instructions:3_000_000', '-o', image],
      )
    expect(Buffer.compare(fs.readFileSync(first), fs.readFileSync(second))).toBe(0)
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

describe('an interrupted capture', () => {
  it('leaves neither an image nor a QEMU nor a temporary file', async context => {
    needsQemu(context)
    const folder = temporaryFolder()
    const child = spawn(
      path.join(packageRoot, 'imago'),
      [
        ...['vm', 'capture', '--kernel', timerGuest, '--memory', '32M', '--until', 'serial:never'],
        ...['--serial', path.join(folder, 'serial'), '-o', path.join(folder, 'image')],
      ],
      { env: { ...process.env, TMPDIR: folder } },
    )
    const ended = new Promise(resolve => child.on('close', resolve))
    const serial = path.join(folder, 'serial')
    while (!fs.existsSync(serial) || !readText(serial).includes('n=1 '))
      await new Promise(resolve => setTimeout(resolve, 20))
    child.kill('SIGINT')
    expect(await ended).toBe(130)
    expect(fs.readdirSync(folder)).toEqual(['serial'])
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
    let lines = new Map<number, unknown>()
    let printed = ''
    for await (const bytes of child.stdout) {
      printed += bytes
      lines = timerLines(readText(at('serial')) + printed)
      if (lines.has(5)) break
    }
    expect([...lines.keys()].slice(0, 4)).toEqual([1, 2, 3, 4])
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
