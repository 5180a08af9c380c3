#!/usr/bin/env node
/**
 * The demo: a python3 computation is frozen mid-way, killed, looked at, and woken up again; it ends with the
 * right answer. Nothing is faked: each step is a command that a user could type, and is shown as such.
 */
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { styleText } from 'node:util'
import { root } from './setup/say.mjs'

const imago = path.join(root, 'imago')
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-demo-'))
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
process.on('SIGINT', () => process.exit(130))

const colour = process.stdout.isTTY && !process.env.NO_COLOR
const style = (format, text) => (colour ? styleText(format, text) : text)
const step = (number, text) =>
  console.log(`\n${style(['bold', 'cyan'], `${number}.`)} ${style('bold', text)}`)
const command = text => console.log(style('dim', `   $ ${text}`))
const show = (text, lines = Number.POSITIVE_INFINITY) => {
  const all = text.trimEnd().split('\n')
  console.log(
    all
      .slice(0, lines)
      .map(line => `     ${line}`)
      .join('\n'),
  )
  if (all.length > lines) console.log(style('dim', `     … ${all.length - lines} more lines`))
}

const PRIME = 12_000
const ANSWER = 128_189 // the 12,000th prime

const program = `
found = []
n = 2
while len(found) < ${PRIME}:
    if all(n % p for p in found if p * p <= n):
        found.append(n)
        if len(found) % 1000 == 0:
            print(f"{len(found):6} primes, the last is {n}", flush=True)
    n += 1
print("answer:", found[-1])
`

const output = path.join(folder, 'out')
const seen = () => fs.readFileSync(output, 'utf8')
const image = path.join(folder, 'primes.ckpt')

function run(...words) {
  const result = spawnSync(imago, words, {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, ...(colour ? { FORCE_COLOR: '1' } : {}) },
  })
  if (result.status !== 0) {
    console.error(result.stderr || result.stdout)
    process.exit(result.status ?? 1)
  }
  return result.stdout
}

const started = performance.now()
fs.writeFileSync(path.join(folder, 'primes.py'), program)

step(
  1,
  `python3 looks for the ${PRIME.toLocaleString('en')}th prime. An ordinary program: no root, no recompiling.`,
)
command('imago run -- python3 primes.py > out &')
const child = spawn(imago, ['run', '--', 'python3', 'primes.py'], {
  cwd: folder,
  stdio: ['ignore', fs.openSync(output, 'w'), 'inherit'],
})
const died = new Promise(resolve => child.once('exit', (_, signal) => resolve(signal)))
while (seen().split('\n').length < 6) await sleep(20)
show(seen())

step(2, 'Half-way, it is frozen into an image …')
command(`imago checkpoint ${child.pid} -o primes.ckpt`)
show(run('checkpoint', String(child.pid), '-o', image))
const before = seen()

step(3, '… and killed. All it knew is in the image now.')
command(`kill -9 ${child.pid}`)
child.kill('SIGKILL')
show(`died of ${await died}`)

step(4, 'What was it doing? Images can be looked into (gdb opens them too).')
command('imago inspect primes.ckpt')
show(run('inspect', image), 24)

step(5, 'It wakes up where it stopped, and finishes.')
command('imago restore primes.ckpt')
// What the program wrote after the freeze and before the kill, it writes again: the file is cut back to the freeze.
run('restore', image)
show(seen().slice(before.length))

const answer = Number(/answer: (\d+)/.exec(seen())?.[1])
const lines = seen().trimEnd().split('\n').length
const right = answer === ANSWER && lines === PRIME / 1000 + 1
console.log(
  right
    ? `\n${style(['bold', 'green'], '✓')} The right answer, each line written once, in ${((performance.now() - started) / 1000).toFixed(1)} s.`
    : `\n${style(['bold', 'red'], '✗')} The answer should be ${ANSWER}, with ${PRIME / 1000 + 1} lines of output.`,
)
process.exit(right ? 0 : 1)
