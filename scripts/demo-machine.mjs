#!/usr/bin/env node
/**
 * The demo of machines: Linux boots in QEMU and counts, is saved in the middle, becomes a gem5 checkpoint, comes
 * back into QEMU and goes on counting. Each step is a command that a user could type; the check values of every
 * line are worked out here anew, and the demo fails when one is wrong or the uptime jumps.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { command, demoFolder, done, fail, imago, run as runIn, show, step } from './narration.mjs'
import { parts } from './setup/parts.mjs'

const folder = demoFolder()
const linux = parts['amd64-linux'].folder
function run(...words) {
  const shown = words.map(word => (/[^\w./:=-]/.test(word) ? `'${word}'` : word)).join(' ')
  command(`imago ${shown.replaceAll(`${linux}/`, '')}`)
  return runIn(folder, words).stdout
}

/** What the guest prints at turn n, uptime left out: scripts/setup/amd64-linux/init. */
function expected(n) {
  let check = 'start'
  for (let i = 1; i <= n; i++) check = createHash('md5').update(`${check} ${i}\n`).digest('hex')
  let sum = 0
  for (let i = 1; i <= 20_000; i++) sum += (i * n) / (i + n)
  return `LOOP ${n} check ${check} sum ${sum.toFixed(6)}`
}
/** Lines of the guest with their turn and uptime; each must be right. */
function checked(text) {
  return [...text.matchAll(/^(LOOP (\d+) .*) uptime (\d+\.\d+)\r?$/gm)].map(([, line, n, uptime]) => {
    if (line !== expected(Number(n))) fail(`a wrong line:\n  ${line}\n  ${expected(Number(n))}`)
    return { n: Number(n), uptime: Number(uptime) }
  })
}

if (spawnSync('qemu-system-x86_64', ['--version']).status !== 0) {
  console.error('this demo needs QEMU: apt-get install qemu-system-x86')
  process.exit(5)
}

step('Boot Debian Linux in QEMU; save it in its fifth turn')
show(
  run(
    ...['vm', 'capture', '--kernel', `${linux}/vmlinuz`, '--initrd', `${linux}/initrd`],
    ...['--until', 'serial:LOOP 5 ', '--serial', 'serial', '-o', 'linux.qemu'],
  ),
)
const before = fs.readFileSync(path.join(folder, 'serial'), 'utf8')
show(before.slice(before.indexOf('LOOP 1 ')))

step('Look at it')
show(run('inspect', 'linux.qemu'), 16)

step('Make a gem5 checkpoint of it, with the script that restores it there')
show(run('convert', 'linux.qemu', '--to', 'gem5', '-o', 'cpt'), 4)

step('And back: into a template, a QEMU that has only booted a guest of ten instructions')
show(run('vm', 'template', '--memory', '128M', '-o', 'template'))
show(run('convert', 'cpt', '--to', 'qemu', '--template', 'template', '-o', 'back.qemu'), 1)

step('Wake it up: it goes on where it was')
command('imago vm resume back.qemu')
const child = spawn(imago, ['vm', 'resume', 'back.qemu'], {
  cwd: folder,
  stdio: ['pipe', 'pipe', 'inherit'],
})
let after = ''
const timer = setTimeout(() => child.kill(), 120_000)
let shown = 0
child.stdout.on('data', data => {
  after += data
  for (let end = after.indexOf('\n', shown); end >= 0; end = after.indexOf('\n', shown)) {
    show(after.slice(shown, end))
    shown = end + 1
  }
  if (/^LOOP 9 .*\r?\n/m.test(after)) child.kill()
})
await new Promise(resolve => child.on('close', resolve))
clearTimeout(timer)

const lines = checked(before + after)
for (const [i, { n, uptime }] of lines.entries()) {
  if (n !== i + 1) fail(`turn ${i + 1} is missing`)
  if (i > 0 && !(uptime > lines[i - 1].uptime && uptime < lines[i - 1].uptime + 30))
    fail(`the uptime jumps from ${lines[i - 1].uptime} to ${uptime}`)
}
if (lines.length < 9) fail(`the guest said no more after turn ${lines.length}`)
done(`${lines.length} turns in two bodies, every check value as computed here, uptime without a gap.`)
