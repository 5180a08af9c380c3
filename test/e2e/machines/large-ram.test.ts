/** A guest with RAM above the hole: QEMU's one block, gem5's two stores, and back into a template of the same size. */
import path from 'node:path'
import { expect, test } from 'vitest'
import { CheckpointText } from '../../../src/formats/gem5/checkpoint-text.js'
import { readGem5 } from '../../../src/formats/gem5/machine.js'
import { readQemu } from '../../../src/formats/qemu/machine.js'
import { ramRanges } from '../../../src/model/machine-memory.js'
import { imago, must } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { needsQemu, readText, resumedWords, timerGuest, timerLines } from './guests.js'

const GIB = 2 ** 30

test('5 GiB go through gem5 and back, and the guest goes on; Palacios refuses them', async context => {
  needsQemu(context)
  const folder = temporaryFolder()
  const at = (name: string) => path.join(folder, name)
  must(
    ...['vm', 'capture', '--kernel', timerGuest, '--memory', '5G', '--icount', '--serial', at('serial')],
    ...['--until', 'serial:n=3 ', '-o', at('large')],
  )
  const before = readText(at('serial'))
  const ranges = [
    { start: 0n, length: 3 * GIB },
    { start: 4n * BigInt(GIB), length: 2 * GIB },
  ]
  expect(ramRanges((await readQemu(at('large'))).memory)).toEqual(ranges)

  must('convert', at('large'), '--to', 'gem5', '--raw-ram', '-o', at('gem5'))
  const text = CheckpointText.read(at('gem5/m5.cpt'))
  expect(text.get('system.physmem.store1', 'range_size')).toBe(String(2 * GIB))
  expect(ramRanges((await readGem5(at('gem5'))).memory)).toEqual(ranges)

  must('convert', at('gem5'), '--to', 'qemu', '-o', at('back'))
  // Both halves together are what the guest printed: also the line that was cut in two.
  const words = await resumedWords(at('back'), /(^n=\d+ .*\r?\n){3}/m)
  const counted = [...timerLines(before + words).keys()]
  expect(counted).toEqual(counted.map((_, i) => i + 1))
  expect(counted.length).toBeGreaterThan(timerLines(before).size + 2)

  const { code, stderr } = imago(['convert', at('large'), '--to', 'palacios', '-o', at('v3')])
  expect([code, /hole/.test(stderr)]).toEqual([4, true])
})

test('sizes of RAM that no other platform has are refused by name, before anything is booted', () => {
  for (const size of ['3073M', '3328M', '65G', '0M', '1500K', 'much']) {
    const { code, stderr } = imago(['vm', 'capture', '--kernel', timerGuest, '--memory', size, '-o', 'image'])
    expect([size, code, stderr]).toEqual([size, 2, expect.stringContaining('is no size')])
  }
})
