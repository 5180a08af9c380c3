/** Wrong pairs of image and program are refused, each with its reason, and nothing is written. */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, expect, test } from 'vitest'
import { engine } from '../../../src/engines/criu/engine.js'
import { requireProgram } from '../../../src/engines/criu/program.js'
import { spawnSync } from '../../helpers/bounded.js'
import { missingCriu } from '../../helpers/criu-program.js'
import { imago } from '../../helpers/imago.js'
import { sharedFolder, temporaryFolder } from '../../helpers/temporary-folder.js'
import { build, missingCompiler } from './build.js'
import { workloads } from './workloads.js'

const workload = workloads.find(each => each.name === 'is')!
const reason = missingCriu() ?? missingCompiler()
let parked: string
let running: string
let folder: string

beforeAll(async () => {
  if (reason !== undefined) return
  folder = sharedFolder()
  build(workload, folder)
  const start = () => {
    const out = fs.openSync(path.join(folder, 'out'), 'w')
    const child = spawn(path.join(folder, 'is_x86-64'), ['S', '100000'], {
      detached: true,
      stdio: ['ignore', out, out],
    })
    fs.closeSync(out)
    return child
  }
  const first = start()
  await sleep(200)
  parked = path.join(folder, 'parked')
  await engine.checkpoint(first.pid!, { output: parked, stop: true })
  // The same program dumped by criu alone, wherever it happens to be.
  const second = start()
  await sleep(200)
  running = path.join(folder, 'running')
  fs.mkdirSync(running)
  const [command, ...words] = requireProgram().command
  spawnSync(command!, [...words, 'dump', '-t', String(second.pid), '-D', running, '--shell-job'])
})

/** A copy of the binaries and their description, to damage. */
function copyOfProgram(): string {
  const copy = temporaryFolder()
  for (const suffix of ['_x86-64', '_aarch64', '.imago.json'])
    fs.copyFileSync(path.join(folder, `is${suffix}`), path.join(copy, `is${suffix}`))
  return path.join(copy, 'is.imago.json')
}

function edit(file: string, change: (description: Record<string, unknown>) => void): string {
  const description = JSON.parse(fs.readFileSync(file, 'utf8')) as Record<string, unknown>
  change(description)
  fs.writeFileSync(file, JSON.stringify(description))
  return file
}

const cases: ReadonlyArray<
  readonly [name: string, code: number, said: RegExp, words: () => readonly string[]]
> = [
  ['an image of the target ISA already', 2, /of x86-64 already/, () => [parked, '--to', 'x86-64']],
  [
    'a thread that is not at a migration point',
    4,
    /not at a migration point/,
    () => [running, '--to', 'aarch64'],
  ],
  [
    'a binary built anew since',
    4,
    /built anew/,
    () => {
      const program = copyOfProgram()
      fs.appendFileSync(program.replace('.imago.json', '_aarch64'), 'x')
      return [parked, '--to', 'aarch64', '--program', program]
    },
  ],
  [
    'the description of another build',
    4,
    /not of this build/,
    () => [
      parked,
      '--to',
      'aarch64',
      '--program',
      edit(copyOfProgram(), description => Object.assign(description, { identity: 'ab'.repeat(32) })),
    ],
  ],
  [
    'a damaged description',
    3,
    /damaged: sites/,
    () => [
      parked,
      '--to',
      'aarch64',
      '--program',
      edit(copyOfProgram(), description => Object.assign(description, { sites: 7 })),
    ],
  ],
  [
    'a description without the site at which the program stands',
    3,
    /no site of the program/,
    () => [
      parked,
      '--to',
      'aarch64',
      '--program',
      edit(copyOfProgram(), description => Object.assign(description, { sites: [] })),
    ],
  ],
]

for (const [name, code, said, words] of cases)
  test(`refused: ${name}`, ({ skip }) => {
    skip(reason !== undefined, reason)
    const target = path.join(temporaryFolder(), 'target')
    const result = imago(['retarget', ...words(), '-o', target])
    expect(result.stderr).toMatch(said)
    expect(result.code).toBe(code)
    expect(fs.readdirSync(path.dirname(target))).toEqual([])
  })

test('refused: a CRIU image in place', ({ skip }) => {
  skip(reason !== undefined, reason)
  const result = imago(['retarget', parked, '--to', 'aarch64', '--in-place'])
  expect(result.stderr).toMatch(/does not change in place/)
  expect(result.code).toBe(2)
})

test('and the image that was refused so often can still be retargeted', ({ skip }) => {
  skip(reason !== undefined, reason)
  const target = path.join(temporaryFolder(), 'target')
  const result = imago(['retarget', parked, '--to', 'aarch64', '-o', target])
  expect(result.stderr).toBe('')
  expect(imago(['inspect', target]).stdout).toContain('aarch64')
})
