#!/usr/bin/env node
/**
 * The demo of processors: a C program begins on x86-64, is frozen mid-way and ends on aarch64; then one begins on aarch64, in an
 * emulated machine, is dumped by the criu there, becomes an x86-64 image and ends here, under the criu of this host.
 * Each step is a command that a user could type; the program checks its own results.
 */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { command, demoFolder, done, fail, run, show, step, style } from './narration.mjs'
import { root } from './setup/say.mjs'

const folder = demoFolder()
const place = name => path.join(folder, name)
const started = performance.now()
const VERDICT = 'IS class S: VERIFICATION SUCCESSFUL'
/** NPB's IS sorts 65,536 keys ten times a round, and checks its ranks each time. */
const ROUNDS = 2000
const ROUNDS_BACK = 200 // the machine is emulated
const lines = name => fs.readFileSync(place(name), 'utf8').split('\n').slice(0, -1)

function imago(...words) {
  command(`imago ${words.join(' ')}`)
  return run(folder, words)
}

/** The last lines of a program's output, and how many there were before them. */
function tail(name, rounds = ROUNDS, count = 2) {
  const all = lines(name)
  show(all.slice(-count).join('\n'))
  console.log(
    style(
      'dim',
      `     (line ${all.length.toLocaleString('en')} of ${(10 * rounds + 1).toLocaleString('en')})`,
    ),
  )
}

/** Every line must be there once, and right. */
function check(name, rounds = ROUNDS) {
  const all = lines(name)
  const verdict = all.pop()
  if (verdict !== VERDICT) fail(`${name} ends with '${verdict}'`)
  if (all.length !== 10 * rounds) fail(`${all.length} lines of iterations instead of ${10 * rounds}`)
  for (const [i, line] of all.entries()) {
    const number = String((i % 10) + 1).padStart(2)
    if (line !== `iteration ${number}: 5 of 5 ranks right`) fail(`line ${i + 1} is '${line}'`)
  }
}

step('NPB IS, compiled once with stock clang 19, for both processors with one memory layout')
fs.copyFileSync(path.join(root, 'workloads/npb/is.c'), place('is.c'))
fs.copyFileSync(path.join(root, 'workloads/npb/npb.h'), place('npb.h'))
imago('cc', '-O2', 'is.c', '-o', 'is')
show(
  fs
    .readdirSync(folder)
    .filter(name => name.startsWith('is_') || name.endsWith('.json'))
    .join('  '),
)

step('It sorts on x86-64')
command(`./is_x86-64 S ${ROUNDS} > out &`)
const output = fs.openSync(place('out'), 'w')
const child = spawn(place('is_x86-64'), ['S', String(ROUNDS)], {
  cwd: folder,
  stdio: ['ignore', output, output],
})
const ended = new Promise(resolve => child.once('exit', resolve))
while (lines('out').length < 6 * ROUNDS && child.exitCode === null) await sleep(2)
tail('out')

step('Mid-way, it is frozen where it can change its processor, and ended')
imago('checkpoint', String(child.pid), '-o', 'is.x86', '--stop')
await ended
show(run(folder, ['inspect', 'is.x86']).stdout, 14)

step('Its image becomes one of aarch64: registers, stack and code are new, memory is what it was')
show(imago('retarget', 'is.x86', '--to', 'aarch64', '-o', 'is.arm').stdout)

step('It wakes up as an aarch64 program, and finishes')
const remarks = imago('restore', 'is.arm').stderr
show(remarks.split('\n').find(line => /qemu-aarch64/.test(line)) ?? 'on this aarch64 machine')
tail('out')
check('out')

const { engineReason, travelBack } = await import('./demo-cross-back.mjs')
const reason = engineReason()
if (reason === undefined) await travelBack({ folder, place, rounds: ROUNDS_BACK, imago, tail, check })
else console.log(`\nThe way back, through criu on both sides, is left out: ${reason}`)
done(
  `Sorted by two processors each, every rank checked, in ${((performance.now() - started) / 1000).toFixed(0)} s.`,
)
