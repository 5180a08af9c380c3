/**
 * What a program pays for being checkpointable while no checkpoint is taken: operations that programs do often,
 * with libckpt.so preloaded and without, in turn.
 *
 *   npm run bench -- overhead [--rounds 9]
 */
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')
const rounds = Number(parseArgs({ options: { rounds: { type: 'string', default: '9' } } }).values.rounds)
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-bench-'))
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
const program = path.join(folder, 'overhead')
execFileSync('gcc', ['-O2', '-pthread', '-o', program, path.join(root, 'workloads/bench/overhead.c')])
const library = execFileSync(path.join(root, 'imago'), ['path', 'libckpt.so'], { encoding: 'utf8' }).trim()

const measure = (operation, preload) =>
  Number(
    execFileSync(program, [operation], {
      encoding: 'utf8',
      env: { ...process.env, ...(preload ? { LD_PRELOAD: library } : {}) },
    }),
  )
const start = preload => {
  const began = performance.now()
  execFileSync('/bin/true', { env: { ...process.env, ...(preload ? { LD_PRELOAD: library } : {}) } })
  return (performance.now() - began) * 1e6
}
const median = numbers => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]

console.log(`medians of ${rounds}, in turn; ns an operation`)
console.log(`${'operation'.padEnd(12)}${'without'.padStart(12)}${'with'.padStart(12)}${'ratio'.padStart(8)}`)
for (const operation of ['malloc', 'open', 'clock', 'write', 'thread', 'fork', 'start']) {
  const samples = { without: [], with: [], ratio: [] }
  for (let round = 0; round <= rounds; round++) {
    const once = preload => (operation === 'start' ? start(preload) : measure(operation, preload))
    // Which goes first changes from round to round: the machine's speed drifts.
    const [first, second] = round % 2 === 0 ? [once(false), once(true)] : [once(true), once(false)]
    const [without, withLibrary] = round % 2 === 0 ? [first, second] : [second, first]
    if (round === 0) continue
    samples.without.push(without)
    samples.with.push(withLibrary)
    samples.ratio.push(withLibrary / without)
  }
  console.log(
    `${operation.padEnd(12)}${median(samples.without).toFixed(1).padStart(12)}${median(samples.with).toFixed(1).padStart(12)}${median(samples.ratio).toFixed(3).padStart(8)}`,
  )
}
