/**
 * What a program pays for being checkpointable while no checkpoint is taken: operations that programs do often,
 * with libckpt.so preloaded and without, in turn.
 *
 *   npm run bench -- overhead [--rounds 9]
 */
import { execFileSync } from 'node:child_process'
import path from 'node:path'
import { commandLine, median, root, temporaryFolder } from './helpers/measuring.mjs'

const { rounds } = commandLine({ rounds: 9 })
const folder = temporaryFolder()
const program = path.join(folder, 'overhead')
execFileSync('gcc', ['-O2', '-pthread', '-o', program, path.join(root, 'workloads/bench/overhead.c')])
const library = execFileSync(path.join(root, 'imago'), ['path', 'libckpt.so'], { encoding: 'utf8' }).trim()

/** As long without as with: where the stack lies depends on it, and by that the time of a malloc (up to a tenth). */
const environment = preload => ({ ...process.env, [preload ? 'LD_PRELOAD' : 'NO_PRELOAD']: library })
const measure = (operation, preload) =>
  Number(execFileSync(program, [operation], { encoding: 'utf8', env: environment(preload) }))
const start = preload => {
  const began = performance.now()
  execFileSync('/bin/true', { env: environment(preload) })
  return (performance.now() - began) * 1e6
}

const row = (name, ...figures) =>
  console.log(`${name.padEnd(12)}${figures.map(figure => String(figure).padStart(12)).join('')}`)

console.log(`medians of ${rounds} and the least, in turn; ns an operation`)
row('operation', 'without', 'with', 'ratio', 'of least')
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
  row(
    operation,
    median(samples.without).toFixed(1),
    median(samples.with).toFixed(1),
    median(samples.ratio).toFixed(3),
    (Math.min(...samples.with) / Math.min(...samples.without)).toFixed(3),
  )
}
