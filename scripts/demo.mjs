#!/usr/bin/env node
/**
 * The demo: a python3 computation is frozen mid-way, killed, looked at, and woken up again; it ends with the
 * right answer. Nothing is faked: each step is a command that a user could type, and is shown as such.
 */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { command, demoFolder, done, fail, imago, run, show, step } from './narration.mjs'

const folder = demoFolder()
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

const started = performance.now()
fs.writeFileSync(path.join(folder, 'primes.py'), program)

step(
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

step('Half-way, it is frozen into an image …')
command(`imago checkpoint ${child.pid} -o primes.ckpt`)
show(run(folder, ['checkpoint', String(child.pid), '-o', image]).stdout)
const before = seen()

step('… and killed. All it knew is in the image now.')
command(`kill -9 ${child.pid}`)
child.kill('SIGKILL')
show(`died of ${await died}`)

step('What was it doing? Images can be looked into (gdb opens them too).')
command('imago inspect primes.ckpt')
show(run(folder, ['inspect', image]).stdout, 24)

step('It wakes up where it stopped, and finishes.')
command('imago restore primes.ckpt')
// What the program wrote after the freeze and before the kill, it writes again: the file is cut back to the freeze.
run(folder, ['restore', image])
show(seen().slice(before.length))

const answer = Number(/answer: (\d+)/.exec(seen())?.[1])
const lines = seen().trimEnd().split('\n').length
if (answer !== ANSWER || lines !== PRIME / 1000 + 1)
  fail(`the answer should be ${ANSWER}, with ${PRIME / 1000 + 1} lines of output`)
done(`The right answer, each line written once, in ${((performance.now() - started) / 1000).toFixed(1)} s.`)
