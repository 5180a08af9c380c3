import path from 'node:path'
import { expect, it } from 'vitest'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { checkedLines, linuxGuest, must, readText, resumedWords } from './guests.js'

/** Moments of a capture: asleep in HLT, in user mode with SSE live, printing, at any time. */
const moments = [
  'serial:LOOP 4 check', // in the middle of a line
  'serial:LOOP 3 check 386422d1a6c07e1a2b80aca34617cdd4 sum 59922.172096 uptime', // before its end
  ...Array.from({ length: 18 }, (_, i) => `time:${3000 + i * 137}ms`),
]

it.for(
  moments.slice(0, rounds(20, 3)),
)('Debian Linux captured at %s goes on after gem5, uptime continuous and check values right', async (moment, context) => {
  const { kernel, initrd } = linuxGuest(context)
  const folder = temporaryFolder()
  const at = (name: string) => path.join(folder, name)
  must(
    ...['vm', 'capture', '--kernel', kernel, '--initrd', initrd, '--until', moment],
    ...['--serial', at('serial'), '-o', at('linux')],
  )
  const index = moments.indexOf(moment)
  const era = index % 2 === 0 ? 'v24' : '2011'
  must('convert', at('linux'), '--to', 'gem5', '--gem5-version', era, '-o', at('gem5'))
  must('vm', 'template', '--memory', '128M', '-o', at('template'))
  must('convert', at('gem5'), '--to', 'qemu', '--template', at('template'), '-o', at('back'))

  const before = readText(at('serial'))
  const printed = checkedLines(before)
  const last = printed.at(-1) ?? { n: 0, uptime: 0 }
  const after = await resumedWords(at('back'), new RegExp(`^LOOP ${last.n + 4} .*\\r?\\n`, 'm'))
  // Both halves together are what the guest printed: also the line that was cut in two.
  const lines = checkedLines(before + after)
  expect(lines.map(line => line.n)).toEqual(lines.map((_, i) => i + 1))
  expect(lines.length).toBeGreaterThanOrEqual(last.n + 4)
  for (const [i, line] of lines.entries())
    if (i > 0) {
      const passed = line.uptime - lines[i - 1]!.uptime
      expect(passed).toBeGreaterThan(0)
      expect(passed).toBeLessThan(30)
    }
})
