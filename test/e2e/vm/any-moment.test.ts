import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { findPart, packageRoot } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { guest, needGuests } from './guests.js'

const runner = fileURLToPath(new URL('chain-runner.mjs', import.meta.url))
const workload = (name: string) => fs.readFileSync(path.join(packageRoot, 'workloads/vm', name))
const BUSYBOX = '/usr/bin/busybox'

interface Program {
  readonly title: string
  /** Undefined: not on this machine. */
  readonly path: () => string | undefined
  /** Why there is no path. */
  readonly missing?: string
  readonly args: readonly string[]
  /** What lies in its folder. */
  readonly files?: Readonly<Record<string, () => Uint8Array | string>>
  /** The engines of one move after the other, each with the longest time until the next move, in milliseconds. */
  readonly kvm: string
  readonly both: string
}

const numbers = (count: number) => () =>
  Array.from({ length: count }, (_, i) => (i * 7919) % (count + 13)).join('\n')

const part = (name: string) => () => {
  const folder = findPart('vm-programs')
  return folder && path.join(folder, name)
}
const partMissing = "it is not in the cache: 'npm run setup -- vm-programs'"
const busybox = {
  path: () => (fs.existsSync(BUSYBOX) ? BUSYBOX : undefined),
  missing: 'busybox-static is not installed',
}

/** glibc (busybox) chooses its code by the CPU it starts on: between the engines it starts on the lesser one. */
const programs: readonly Program[] = [
  {
    title: 'a sort of a million',
    path: () => guest('sort'),
    args: [],
    kvm: 'kvm:15',
    both: 'unicorn:60,kvm:15',
  },
  {
    title: 'Lua',
    path: part('lua'),
    missing: partMissing,
    args: ['work.lua'],
    files: { 'work.lua': () => workload('work.lua') },
    kvm: 'kvm:10',
    both: 'unicorn:40,kvm:10',
  },
  {
    title: 'SQLite with its database in a file',
    path: part('sqlite3'),
    missing: partMissing,
    args: ['work.db', '.read work.sql'],
    files: { 'work.sql': () => workload('work.sql') },
    kvm: 'kvm:8',
    both: 'unicorn:40,kvm:8',
  },
  {
    ...busybox,
    title: 'sha256sum of busybox',
    args: ['sha256sum', 'numbers'],
    files: { numbers: numbers(600_000) },
    kvm: 'kvm:3',
    both: 'unicorn:20,kvm:3',
  },
  {
    ...busybox,
    title: 'sort of busybox',
    args: ['sort', '-n', 'numbers'],
    files: { numbers: numbers(60_000) },
    kvm: 'kvm:5',
    both: 'unicorn:20,kvm:5',
  },
  {
    ...busybox,
    title: 'gzip of busybox',
    args: ['gzip', '-nc', 'numbers'],
    files: { numbers: numbers(60_000) },
    kvm: 'kvm:5',
    both: 'unicorn:20,kvm:5',
  },
]

/** A fresh folder with the program's files. */
function folderOf(program: Program): string {
  const folder = temporaryFolder()
  for (const [name, content] of Object.entries(program.files ?? {}))
    fs.writeFileSync(path.join(folder, name), content())
  return folder
}

/** What it prints and leaves in its folder. */
function results(stdout: string, folder: string) {
  const files = fs.readdirSync(folder).sort()
  return { stdout, files: files.map(name => [name, fs.readFileSync(path.join(folder, name), 'latin1')]) }
}

const native = (program: string, args: readonly string[], cwd: string) =>
  spawnSync(program, args, { encoding: 'latin1', cwd, maxBuffer: 1 << 28, env: {} }).stdout

/** Runs it with a save and a restore at each of many random moments. */
function moveAround(program: Program, file: string, engines: string, moments: number, seed: number) {
  const cwd = folderOf(program)
  const words = [runner, String(moments), engines, String(seed), file, ...program.args]
  const options = { encoding: 'latin1', cwd, maxBuffer: 1 << 28, timeout: 480_000 } as const
  const run = spawnSync(process.execPath, words, options)
  expect(run.stderr).toMatch(/^moved \d+ times\n$/)
  return { ...results(run.stdout, cwd), moved: Number(/\d+/.exec(run.stderr)![0]) }
}

for (const [seed, program] of programs.entries()) {
  for (const [where, engines] of [
    ['', program.kvm],
    [' to and fro between KVM and Unicorn', program.both],
  ] as const)
    test(`${program.title}, moved at random moments${where}, prints and leaves what it does natively`, ({
      skip,
    }) => {
      needGuests(skip)
      skip(
        engines.includes('unicorn') && !fs.existsSync('/usr/lib/x86_64-linux-gnu/libunicorn.so.2'),
        'libunicorn2 is not installed',
      )
      const file = program.path()
      skip(file === undefined, program.missing)
      const cwd = folderOf(program)
      const wanted = results(native(file!, program.args, cwd), cwd)
      const moments = rounds(51, 11) // odd: what is left after the last one runs on KVM
      const { moved, ...got } = moveAround(program, file!, engines, moments, seed + 1)
      expect(got).toEqual(wanted)
      expect(moved).toBeGreaterThan(moments / 3)
    })
}

test('signal handlers, masks and faults behave as on Linux, on both engines', ({ skip }) => {
  needGuests(skip)
  const program = guest('signals')
  for (const engine of ['kvm', 'unicorn']) {
    const result = imago(['vm', 'run', '-q', '--engine', engine, program])
    expect(result.stdout).toBe(native(program, [], temporaryFolder()))
    expect(result.code).toBe(128 + 15)
  }
})

test('timers, and calls that wait, behave as on Linux, also when saved and restored at random moments', ({
  skip,
}) => {
  needGuests(skip)
  const file = guest('waiting')
  const program: Program = { title: '', path: () => file, args: [], kvm: '', both: 'kvm:60,unicorn:60' }
  const expected = native(file, [], temporaryFolder())
  expect(expected).toContain('sigsuspend: interrupted, 1\n')
  for (const engine of ['kvm', 'unicorn'])
    expect(imago(['vm', 'run', '-q', '--engine', engine, file])).toMatchObject({
      stdout: expected,
      code: 128 + 11,
    })
  const { stdout, moved } = moveAround(program, file, program.both, rounds(50, 12), 7)
  expect(stdout).toBe(expected)
  expect(moved).toBeGreaterThan(2)
})

test('CPU time and its timers are those of the guest, wherever it runs, also when it is moved at random moments', ({
  skip,
}) => {
  needGuests(skip)
  const file = guest('cputime')
  const program: Program = { title: '', path: () => file, args: [], kvm: '', both: 'kvm:60,unicorn:60' }
  const expected = native(file, [], temporaryFolder())
  expect(expected).toContain('computing: enough was used: 1, backwards 0\n')
  for (const engine of ['kvm', 'unicorn'])
    expect(imago(['vm', 'run', '-q', '--engine', engine, file])).toMatchObject({ stdout: expected, code: 0 })
  const { stdout, moved } = moveAround(program, file, program.both, rounds(50, 8), 8)
  expect(stdout).toBe(expected)
  expect(moved).toBeGreaterThan(1)
})

test.for([
  ['events', 'eventfd, timerfd, epoll and statx', 0, '5 ready: 1 (0x1) 2 (0x1) 3 (0x1) 4 (0x1) 5 (0x4)\n'],
  ['notices', 'timer_create, signalfd and sigqueue', 128 + 34 + 4, 'then: signal 3, code -2, value 9\n'],
] as const)('%s: %s behave as on Linux, also when saved with events on their way', ([name, , code, line], {
  skip,
}) => {
  needGuests(skip)
  const program = guest(name)
  const cwd = temporaryFolder()
  const expected = native(program, [], cwd)
  expect(expected).toContain(line)
  for (const engine of ['kvm', 'unicorn']) {
    const there = imago(['vm', 'run', '-q', '--engine', engine, program], { cwd })
    expect(there).toMatchObject({ stdout: expected, code })
    const saved = imago(['vm', 'run', '-q', '--engine', engine, '-o', 'e.vm', program, 'save'], { cwd })
    expect(saved.code, saved.stderr).toBe(0)
    for (const next of ['kvm', 'unicorn']) {
      const restored = imago(['vm', 'restore', '-q', '--engine', next, 'e.vm'], { cwd })
      expect(saved.stdout + restored.stdout, restored.stderr).toBe(expected)
    }
  }
})

const glibcProgram = programs.find(({ title }) => title === 'sha256sum of busybox')!

test('a program of glibc that is stopped as it starts has chosen its code by the CPU it began on', ({
  skip,
}) => {
  needGuests(skip)
  const file = glibcProgram.path()
  skip(file === undefined, glibcProgram.missing)
  const cwd = folderOf(glibcProgram)
  const wanted = results(native(file!, glibcProgram.args, cwd), cwd)
  // On Unicorn it is stopped before its first instruction; what it would ask on KVM, Unicorn does not have.
  const { moved, ...got } = moveAround(glibcProgram, file!, 'unicorn:0,kvm:30', 5, 1)
  expect(got).toEqual(wanted)
  expect(moved).toBeGreaterThan(0)
})

test('a program of glibc that chose its code by a CPU that can do more is refused by name', ({ skip }) => {
  needGuests(skip)
  const file = glibcProgram.path()
  skip(file === undefined, glibcProgram.missing)
  skip(!/^flags.* avx2 /m.test(fs.readFileSync('/proc/cpuinfo', 'utf8')), 'this CPU has no AVX2')
  const cwd = temporaryFolder()
  const save = fileURLToPath(new URL('stop-and-save.mjs', import.meta.url))
  const words = [save, path.join(packageRoot, 'dist'), '0', 'a.vm', file!, 'sleep', '100000']
  expect(spawnSync(process.execPath, words, { cwd, encoding: 'utf8' })).toMatchObject({ status: 0 })
  const refused = imago(['vm', 'restore', '-q', '--engine', 'unicorn', 'a.vm'], { cwd })
  expect(refused.code).toBe(5)
  expect(refused.stderr).toMatch(/chose its code for a CPU that can do more.*\n.*missing here: .*avx2/)
})
