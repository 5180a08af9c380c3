#!/usr/bin/env node
/**
 * The demo of the two processors: a C program, compiled once, is frozen on x86-64 and finishes on aarch64; then the way that
 * people went by hand before: started on aarch64, dumped there by criu, rebuilt as an image of x86-64, restored here by criu.
 * Nothing is faked: each step is a command that a user could type, and is shown as such.
 */
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { styleText } from 'node:util'
import { root } from './setup/say.mjs'

const { Arm64Machine } = await import(path.join(root, 'dist/engines/arm64-machine/machine.js'))

const imago = path.join(root, 'imago')
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-demo-'))
fs.chmodSync(folder, 0o755) // criu compares modes, and the machine has the same folder
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
process.on('SIGINT', () => process.exit(130))
const file = name => path.join(folder, name)

const colour = process.stdout.isTTY && !process.env.NO_COLOR
const style = (format, text) => (colour ? styleText(format, text) : text)
const step = (number, text) =>
  console.log(`\n${style(['bold', 'cyan'], `${number}.`)} ${style('bold', text)}`)
const command = (text, where = '$') =>
  console.log(style('dim', `   ${where} ${text.replaceAll(`${folder}/`, '')}`))
const show = (text, from = 0, to = Number.POSITIVE_INFINITY) => {
  const lines = text.trimEnd().split('\n')
  console.log(
    lines
      .slice(from, to)
      .map(line => `     ${line.replaceAll(`${folder}/`, '')}`)
      .join('\n'),
  )
  if (lines.length > to) console.log(style('dim', `     … ${lines.length - to} more lines`))
}

/** A command of imago, shown as one would type it; what it says. */
function run(...words) {
  command(['imago', ...words].join(' '))
  const result = spawnSync(imago, words, { cwd: folder, encoding: 'utf8' })
  if (result.status !== 0) {
    console.error(result.stderr || result.stdout)
    process.exit(result.status ?? 1)
  }
  return result.stdout + result.stderr.replace(/^(?!note:).*\n/gm, '')
}

const seen = name => fs.readFileSync(file(name), 'utf8')
const lastLines = (text, count) => text.trimEnd().split('\n').slice(-count).join('\n')

/** Starts is_x86-64 with its output in a file; resolves once it has written something. */
async function startHere(output, rounds) {
  command(`./is_x86-64 S ${rounds} > ${output} &`)
  const fd = fs.openSync(file(output), 'w')
  const child = spawn(file('is_x86-64'), ['S', String(rounds)], {
    cwd: folder,
    detached: true,
    stdio: ['ignore', fd, fd],
  })
  fs.closeSync(fd)
  while (seen(output).length === 0) await sleep(20)
  return child
}

/** The verdicts: identical to what the program prints when nobody touches it. */
const verdicts = []
function judge(name, output, rounds) {
  const alone = spawnSync(file('is_x86-64'), ['S', String(rounds)], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  }).stdout
  const right = seen(output) === alone && alone.trimEnd().endsWith('VERIFICATION SUCCESSFUL')
  verdicts.push(right)
  console.log(
    right
      ? `   ${style(['bold', 'green'], '✓')} ${name}: byte for byte what it prints when nobody moves it.`
      : `   ${style(['bold', 'red'], '✗')} ${name}: this is not what it prints when nobody moves it.`,
  )
}

const begun = performance.now()
step(1, 'IS, a kernel of the NAS Parallel Benchmarks, compiled once: two binaries of one layout.')
fs.copyFileSync(path.join(root, 'workloads/npb/is.c'), file('is.c'))
fs.copyFileSync(path.join(root, 'workloads/npb/npb.h'), file('npb.h'))
run('cc', '-O2', file('is.c'), '-o', file('is'), '-lm')
show(
  spawnSync('ls', ['-sh', 'is_x86-64', 'is_aarch64', 'is.imago.json'], { cwd: folder, encoding: 'utf8' })
    .stdout,
)

step(2, 'It runs on x86-64, and is frozen at the next migration point, in the middle of its work.')
const child = await startHere('out', 1500)
show(run('checkpoint', String(child.pid), '-o', file('is.x86-64'), '--stop'))
const before = seen('out')
console.log(`     it had written ${before.trimEnd().split('\n').length} lines:`)
show(lastLines(before, 2))

step(3, 'What is in the image?')
show(run('inspect', file('is.x86-64')), 0, 14)

step(
  4,
  'The image becomes one of the other processor: registers and stacks are built anew, memory stays as it is.',
)
show(run('retarget', file('is.x86-64'), '--to', 'aarch64', '-o', file('is.aarch64')))

step(5, 'It goes on as an aarch64 program, and finishes.')
show(run('restore', file('is.aarch64'), '--pid', 'new'))
console.log(`     and in the end it wrote (${seen('out').trimEnd().split('\n').length} lines by now):`)
show(lastLines(seen('out'), 3))
judge('x86-64 → aarch64', 'out', 1500)

await byHandInReverse()
const seconds = ((performance.now() - begun) / 1000).toFixed(0)
const right = verdicts.every(Boolean)
console.log(
  right
    ? `\n${style(['bold', 'green'], '✓')} ${verdicts.length === 2 ? 'Both ways' : 'One way'}, the verification is SUCCESSFUL; ${seconds} s.`
    : `\n${style(['bold', 'red'], '✗')} Something went wrong.`,
)
process.exit(right ? 0 : 1)

/** aarch64 → x86-64 with criu on both sides: what the notes on manual migration did page by page. */
async function byHandInReverse() {
  step(
    6,
    'The way of the manual notes: started on aarch64, in a machine of its own (emulated; 10 s and more to boot).',
  )
  const missing = process.getuid() === 0 ? Arm64Machine.missing() : 'criu needs root'
  if (missing !== undefined) {
    console.log(`   left out: ${missing}`)
    return
  }
  const machine = await Arm64Machine.boot()
  const guest = text => {
    command(text, 'aarch64 #')
    return machine.must(text, { timeout: 120_000 })
  }
  try {
    await machine.putFile(
      file('is_aarch64'),
      fs.readFileSync(file('is_aarch64')),
      fs.statSync(file('is_aarch64')).mode & 0o777,
    )
    // The id must be free on both machines: criu gives a process its old one.
    const highest = Number(fs.readFileSync('/proc/sys/kernel/pid_max', 'utf8'))
    let first = highest - 1000 - Math.floor(Math.random() * 1000)
    while (fs.existsSync(`/proc/${first + 20}`)) first--
    await machine.must(`echo ${first} > /proc/sys/kernel/ns_last_pid`)
    show(await guest('uname -sm'))
    const pid = Number(
      await guest(`cd ${folder}; setsid ./is_aarch64 S 60 < /dev/null > moved 2>&1 & echo $!`),
    )
    while (Number(await machine.must(`wc -c < ${file('moved')}`)) === 0) await sleep(100)
    // SIGUSR2 with this file there: stand still at a migration point, for a tool from outside.
    await guest(`touch /tmp/imago-park-${pid}; kill -12 ${pid}`)
    while (!/^State:\s+S/m.test(await machine.must(`cat /proc/${pid}/status`))) await sleep(50)
    await guest(`mkdir /image; criu dump -t ${pid} -D /image --shell-job && ls /image | wc -l`)
    await machine.getFolder('/image', file('criu.aarch64'))
    fs.writeFileSync(file('moved'), await machine.getFile(file('moved')))
    show(lastLines(seen('moved'), 2))
    await machine.stop()
    console.log('     The machine is off. All that is left is the image.')

    step(7, 'Its pages, as the notes list them; and those of the image rebuilt for x86-64.')
    show(run('pages', file('criu.aarch64')), 0, 18)
    show(run('retarget', file('criu.aarch64'), '--to', 'x86-64', '-o', file('criu.x86-64')))
    show(run('pages', file('criu.x86-64')), 0, 18)

    step(8, 'criu restores it here, on x86-64.')
    const restored = run('restore', file('criu.x86-64'))
    show(restored || 'it has finished')
    show(lastLines(seen('moved'), 3))
    judge('aarch64 → x86-64', 'moved', 60)
  } finally {
    await machine.stop()
  }
}
