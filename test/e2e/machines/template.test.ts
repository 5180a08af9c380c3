import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { gem5Sample, qemuSample } from '../../unit/machines/samples.js'
import { must, needsQemu, readText, resumedWords, timerGuest, timerLines } from './guests.js'

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
