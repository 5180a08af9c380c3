import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { imago } from '../../helpers/imago.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { guest, missingForGuests } from './guests.js'

const runner = fileURLToPath(new URL('chain-runner.mjs', import.meta.url))

interface Chain {
  readonly program: string
  readonly args: readonly string[]
  readonly engines: string
  /** Longest time between two saves, in milliseconds. */
  readonly longest: number
  readonly cwd?: string
}

/** The guest's output after it was saved and restored many times. */
function chained(chain: Chain, moments: number, seed: number): { stdout: string; moved: number } {
  const result = spawnSync(
    process.execPath,
    [
      runner,
      String(moments),
      chain.engines,
      String(seed),
      String(chain.longest),
      chain.program,
      ...chain.args,
    ],
    { encoding: 'latin1', cwd: chain.cwd, maxBuffer: 1 << 28, timeout: 240_000 },
  )
  expect(result.stderr).toMatch(/^moved \d+ times\n$/)
  return { stdout: result.stdout, moved: Number(/\d+/.exec(result.stderr)![0]) }
}

const native = (program: string, args: readonly string[], cwd?: string) =>
  spawnSync(program, args, { encoding: 'latin1', cwd, maxBuffer: 1 << 28 }).stdout

const moments = () => rounds(50, 12)

test('a sort of a million saved and restored at random moments prints what it prints natively', ({
  skip,
}) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const program = guest('sort')
  const { stdout, moved } = chained({ program, args: [], engines: 'kvm', longest: 15 }, moments(), 1)
  expect(stdout).toBe(native(program, []))
  expect(moved).toBeGreaterThan(rounds(25, 6))
})

test('a sort moved back and forth between KVM and Unicorn prints what it prints natively', ({ skip }) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  skip(!fs.existsSync('/usr/lib/x86_64-linux-gnu/libunicorn.so.2'), 'libunicorn2 is not installed')
  const program = guest('sort')
  const chain = { program, args: ['40000'], longest: 60 }
  for (const engines of ['unicorn,kvm', 'unicorn']) {
    const { stdout, moved } = chained({ ...chain, engines }, moments(), 3)
    expect(stdout).toBe(native(program, ['40000']))
    expect(moved).toBeGreaterThan(1)
  }
})

test('signal handlers, masks and faults behave as on Linux, on both engines', ({ skip }) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const program = guest('signals')
  for (const engine of ['kvm', 'unicorn']) {
    const result = imago(['vm', 'run', '-q', '--engine', engine, program])
    expect(result.stdout).toBe(native(program, []))
    expect(result.code).toBe(128 + 15)
  }
})

test('timers, and calls that wait, behave as on Linux, also when saved and restored at random moments', ({
  skip,
}) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const program = guest('waiting')
  const expected = native(program, [])
  expect(expected).toContain('sigsuspend: interrupted, 1\n')
  for (const engine of ['kvm', 'unicorn'])
    expect(imago(['vm', 'run', '-q', '--engine', engine, program])).toMatchObject({
      stdout: expected,
      code: 128 + 11,
    })
  const chain = { program, args: [], engines: 'kvm,unicorn', longest: 60 }
  const { stdout, moved } = chained(chain, moments(), 7)
  expect(stdout).toBe(expected)
  expect(moved).toBeGreaterThan(2)
})

test('busybox applets (glibc) compute the same when saved and restored at random moments', ({ skip }) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  skip(!fs.existsSync('/usr/bin/busybox'), 'busybox-static is not installed')
  const cwd = temporaryFolder()
  const numbers = Array.from({ length: 60_000 }, (_, i) => (i * 7919) % 60_013)
  fs.writeFileSync(path.join(cwd, 'numbers'), numbers.join('\n'))
  for (const args of [
    ['sha256sum', 'numbers'],
    ['sort', '-n', 'numbers'],
    ['gzip', '-nc', 'numbers'],
  ]) {
    const chain = { program: '/usr/bin/busybox', args, engines: 'kvm', longest: 5, cwd }
    expect(chained(chain, moments(), 5).stdout).toBe(native('/usr/bin/busybox', args, cwd))
  }
})
