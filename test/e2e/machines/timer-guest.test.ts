/**
 * The timer guest (64-bit, PIT by the I/O APIC, APIC timer, HLT, SSE, x87) through every platform and back into QEMU.
 * It prints n, its interrupt counts, and a linear congruential generator: any register or byte lost would change it.
 */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { gem5Sample, palaciosMemory, palaciosSample, qemuSample } from '../../unit/machines/samples.js'

const hasQemu = spawnSync('qemu-system-x86_64', ['--version']).status === 0

interface Line {
  readonly n: number
  readonly pit: number
  readonly lapic: number
  readonly cs: bigint
  readonly tsc: bigint
}

function parse(text: string): Line[] {
  const pattern = /^n=(\d+) pit=(\d+) lapic=(\d+) acc=\d+ x87=\d+ cs=([0-9a-f]{16}) tsc=(\d+)\r?$/gm
  return [...text.matchAll(pattern)].map(match => ({
    n: Number(match[1]),
    pit: Number(match[2]),
    lapic: Number(match[3]),
    cs: BigInt(`0x${match[4]}`),
    tsc: BigInt(match[5]!),
  }))
}

/** Lets QEMU go on with a stream until it has printed `count` lines. */
async function goOn(stream: string, count: number): Promise<Line[]> {
  const serial = `${stream}.serial`
  const words = ['-M', 'pc', '-m', '32', '-nic', 'none', '-display', 'none', '-monitor', 'none']
  const qemu = spawn(
    'qemu-system-x86_64',
    [...words, '-serial', `file:${serial}`, '-incoming', `exec:cat ${stream}`],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  let messages = ''
  qemu.stderr.on('data', chunk => {
    messages += chunk
  })
  const ended = new Promise(resolve => qemu.on('exit', resolve))
  try {
    for (let waited = 0; waited < 120_000 && qemu.exitCode === null; waited += 50) {
      await new Promise(resolve => setTimeout(resolve, 50))
      const lines = fs.existsSync(serial) ? parse(fs.readFileSync(serial, 'latin1')) : []
      if (lines.length >= count) return lines
    }
    throw new Error(`the guest did not go on: ${messages}\n${fs.readFileSync(serial, 'latin1')}`)
  } finally {
    qemu.kill('SIGKILL')
    await ended
  }
}

const MULTIPLIER = 6364136223846793005n

/** The next lines follow from the one before: `before` is what the guest printed last. */
function expectContinues(lines: readonly Line[], before: Pick<Line, 'n' | 'cs' | 'pit'>): void {
  let { n, cs, pit } = before
  for (const line of lines) {
    n++
    cs = BigInt.asUintN(64, cs * MULTIPLIER + BigInt(n))
    pit += 10
    expect({ n: line.n, cs: line.cs, pit: line.pit }).toEqual({ n, cs, pit })
  }
  expect(lines.length).toBeGreaterThan(0)
}

/** What QEMU's guest had printed when it was captured. */
const captured = { n: 28, pit: 280, cs: 0x64e4b21ff7dc9645n }

function convert(...words: string[]): void {
  const { code, stderr } = imago(['convert', ...words])
  expect([code, stderr]).toEqual([0, ''])
}

describe('the timer guest goes on in QEMU', () => {
  test.for([
    ['gem5', ['--to', 'gem5']],
    ['gem5 of 2011', ['--to', 'gem5', '--gem5-version', '2011']],
    ['gem5 with raw RAM', ['--to', 'gem5', '--raw-ram']],
    ['Palacios', ['--to', 'palacios']],
  ] as const)('after QEMU → %s → QEMU', async ([, words], { skip }) => {
    skip(!hasQemu, 'qemu-system-x86_64 is not installed')
    const folder = temporaryFolder()
    const [middle, back] = [path.join(folder, 'middle'), path.join(folder, 'back.qemu')]
    convert(qemuSample('timer', folder), ...words, '-o', middle)
    convert(middle, '--to', 'qemu', '--template', qemuSample('busy', folder), '-o', back)
    expectContinues(await goOn(back, 3), captured)
  })

  test('from the checkpoint that gem5 itself wrote', async ({ skip }) => {
    skip(!hasQemu, 'qemu-system-x86_64 is not installed')
    const folder = temporaryFolder()
    const back = path.join(folder, 'back.qemu')
    convert(gem5Sample('timer'), '--to', 'qemu', '--template', qemuSample('busy', folder), '-o', back)
    const lines = await goOn(back, 3)
    expectContinues(lines, { n: 10, pit: 100, cs: 0x1b78ee0ddf80e052n })
    // gem5's TSC goes on: 1.05 s at 1 GHz had passed.
    expect(lines[0]!.tsc).toBeGreaterThan(1_050_000_000n)
  })

  test('after gem5 → Palacios → gem5 → QEMU', async ({ skip }) => {
    skip(!hasQemu, 'qemu-system-x86_64 is not installed')
    const folder = temporaryFolder()
    const at = (name: string) => path.join(folder, name)
    convert(gem5Sample('timer'), '--to', 'palacios', '-o', at('palacios'))
    convert(at('palacios'), '--to', 'gem5', '--skeleton', gem5Sample('timer'), '-o', at('gem5'))
    convert(at('gem5'), '--to', 'qemu', '--template', qemuSample('busy', folder), '-o', at('back'))
    expectContinues(await goOn(at('back'), 3), { n: 10, pit: 100, cs: 0x1b78ee0ddf80e052n })
  })

  test('from a Palacios checkpoint with its memory dump', async ({ skip }) => {
    skip(!hasQemu, 'qemu-system-x86_64 is not installed')
    const folder = temporaryFolder()
    const back = path.join(folder, 'back.qemu')
    const memory = palaciosMemory(folder)
    convert(
      palaciosSample,
      '--memory',
      memory,
      '--to',
      'qemu',
      '--template',
      qemuSample('busy', folder),
      '-o',
      back,
    )
    expectContinues(await goOn(back, 3), captured)
  })
})

test('without --template QEMU makes one, and the printed command line goes on', async ({ skip }) => {
  skip(!hasQemu, 'qemu-system-x86_64 is not installed')
  const back = path.join(temporaryFolder(), 'back.qemu')
  const { code, stdout } = imago(['convert', gem5Sample('timer'), '--to', 'qemu', '-o', back])
  expect(code).toBe(0)
  const line = /or QEMU itself {2}(.*)$/m.exec(stdout)![1]!
  const guest = spawn('sh', ['-c', `exec ${line}`], { stdio: ['ignore', 'pipe', 'ignore'] })
  const limit = setTimeout(() => guest.kill('SIGKILL'), 120_000)
  try {
    let text = ''
    for await (const bytes of guest.stdout) {
      text += String(bytes)
      if (/^n=13 .*tsc=\d+\r?$/m.test(text)) break
    }
    // The same 1 GHz that gem5 had: 100 ms between two lines are 100,000,000 ticks.
    const ticks = [...text.matchAll(/tsc=(\d+)/g)].map(match => Number(match[1]))
    expect(text).toMatch(/^n=11 pit=110 .* cs=c82fa95620aa1c75 /m)
    expect(Math.abs(ticks[1]! - ticks[0]! - 100_000_000)).toBeLessThan(1_000_000)
  } finally {
    clearTimeout(limit)
    guest.kill('SIGKILL')
  }
})

test.each([
  'gem5',
  'palacios',
  'qemu',
])('--strict writes nothing when --to %s would lose anything, and says what', to => {
  const [folder, templates] = [temporaryFolder(), temporaryFolder()]
  const target = path.join(folder, 'out')
  const { code, stderr } = imago([
    'convert',
    to === 'qemu' ? gem5Sample('timer') : qemuSample('timer', folder),
    '--to',
    to,
    ...(to === 'qemu' ? ['--template', qemuSample('busy', templates)] : []),
    '--strict',
    '-o',
    target,
  ])
  expect(code).toBe(4)
  expect(stderr).toMatch(/would be lost/)
  expect(fs.readdirSync(folder)).toEqual(to === 'qemu' ? [] : ['timer.qemu'])
})

test('inspect, diff and verify take machines of different formats', () => {
  const folder = temporaryFolder()
  const source = qemuSample('timer', folder)
  convert(source, '--to', 'gem5', '-o', path.join(folder, 'g'))
  const page = imago(['inspect', source]).stdout
  expect(page).toMatch(/halted.*64-bit mode, ring 0/)
  expect(page).toMatch(/APIC timer +in 1\d\d\.\d µs/)
  expect(page).toMatch(/hpet/)
  const diff = imago(['diff', source, path.join(folder, 'g')])
  expect(diff.code).toBe(1)
  expect(diff.stdout).not.toMatch(/cpu\.(general|rip|control|segments)|RAM/)
  expect(imago(['verify', path.join(folder, 'g')]).code).toBe(0)
  expect(imago(['diff', source, source]).code).toBe(0)
})
