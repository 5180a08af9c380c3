/**
 * Debian Linux, frozen in QEMU at twenty moments of four kinds, translated, and woken up in another QEMU: the loop
 * goes on with the right check values, and by its own clock no more time has passed than by ours.
 */
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, expect, it, onTestFinished } from 'vitest'
import { lineFor, resume } from '../../../src/engines/qemu/resume.js'
import { readCaptureRecord } from '../../../src/formats/qemu/capture-record.js'
import { openStream } from '../../../src/formats/qemu/read-stream.js'
import { readImage } from '../../../src/formats/registry.js'
import { must } from '../../helpers/imago.js'
import { rounds } from '../../helpers/rounds.js'
import { sharedFolder, temporaryFolder } from '../../helpers/temporary-folder.js'
import { CountingLinux, moments, SerialText } from './counting-linux.js'
import { checkedLines, linuxGuest } from './guests.js'

/** What the machine becomes on its way, each of the one before. */
const ways = {
  gem5: [['gem5']],
  'gem5 of 2011': [['gem5', '--gem5-version', '2011']],
  Palacios: [['palacios']],
  'gem5 with raw RAM': [['gem5', '--raw-ram']],
  'gem5, Palacios and gem5': [['gem5'], ['palacios'], ['gem5']],
} as const

/** Four kinds and five ways: twenty cases are each kind by each way once, and any few of them are of all kinds and ways. */
const cases = Array.from({ length: 20 }, (_, i) => [nth(moments, i), nth(ways, i)] as const)

function nth<T extends object>(table: T, i: number): keyof T {
  const names = Object.keys(table)
  return names[i % names.length] as keyof T
}

/** The guest's clock may differ from ours by this much: it is read when a line is printed, ours when it arrives. */
const CLOCK_TOLERANCE_S = 2

const shared = sharedFolder()
let linux: CountingLinux | undefined
afterAll(() => linux?.end())

it.for(
  cases.slice(0, rounds(20, 8)),
)('Debian Linux, frozen %s, goes on after %s: uptime continuous, check values right', async ([
  kind,
  way,
], context) => {
  const files = linuxGuest(context)
  const template = path.join(shared, 'template')
  if (!fs.existsSync(template)) must('vm', 'template', '--memory', '128M', '-o', template)
  linux ??= await CountingLinux.boot(files, readCaptureRecord(template).tscRate!)

  const folder = temporaryFolder()
  let image = path.join(folder, 'linux')
  const sinceLine = await linux.save(moments[kind], image)
  const before = linux.serial.text
  for (const [i, to] of ways[way].entries()) {
    const next = path.join(folder, `${i} ${to[0]}`)
    must('convert', image, '--to', ...to, '-o', next)
    image = next
    const translated = await readImage(image)
    if (!('cpus' in translated.image)) throw new Error('no machine')
    expect(moments[kind].matches(translated.image)).toBe(true)
  }
  const back = path.join(folder, 'back')
  must('convert', image, '--to', 'qemu', '--template', template, '-o', back)

  const last = checkedLines(before).at(-1)!
  const stream = openStream(back)
  stream.source.close()
  const after = new SerialText()
  const resumed = await resume(back, { line: lineFor(back, stream), serial: after.receive, paused: true })
  onTestFinished(() => resumed.stop()) // also when it takes too long
  after.running = true
  await resumed.qmp.execute('cont')
  const whole = (text: string) => checkedLines(before + text)
  await after.until(text => whole(text).at(-1)!.n > last.n)
  const next = whole(after.text)[last.n]!
  const passed = sinceLine + after.lineEnded
  expect(next.uptime - last.uptime).toBeGreaterThan(0)
  expect(next.uptime - last.uptime).toBeLessThan(passed + CLOCK_TOLERANCE_S)
  await after.until(text => whole(text).at(-1)!.n >= last.n + 3)
  // Both halves together are what the guest printed: also the line that was cut in two.
  const lines = whole(after.text)
  expect(lines.map(line => line.n)).toEqual(lines.map((_, i) => i + 1))
})
