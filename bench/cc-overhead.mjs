#!/usr/bin/env node
/**
 * What migration points cost while nobody migrates: programs compiled by `imago cc -O2` beside the same compiled by the
 * same clang with plain -O2 and linked with the same musl, run in turns. User time: the least of each, and the median of
 * the ratios of neighbours in time, which a busy machine disturbs least.
 *
 * And how long a program runs from one poll to the next at worst: from SIGUSR2 until it sleeps, at moments of a run.
 *
 *   npm run bench -- cc-overhead [--rounds 15] [NAME…]
 */
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { columns, durationText } from '../dist/cli/output.js'
import { Tools, targets } from '../dist/toolchain/tools.js'
import { commandLine, median, root, temporaryFolder } from './helpers/measuring.mjs'

const { rounds, words } = commandLine({ rounds: 15 })

/** Workload, its arguments, and what is asked of it. */
const programs = [
  ['cross/fib-tree', ['35', '400000'], 1.25],
  ['cross/interpreter', ['200000', '20'], 2],
  ['npb/is', ['W', '5'], 1.05],
  ['npb/ep', ['W'], 1.05],
  ['npb/cg', ['W'], 1.05],
  ['npb/mg', ['W'], 1.05],
  ['npb/ft', ['W'], 1.05],
].filter(([name]) => words.length === 0 || words.some(word => name.includes(word)))

const tools = new Tools()
const folder = temporaryFolder()

async function compilePlain(source, output) {
  const musl = tools.libraries('x86-64')
  await tools.run('clang', [
    ...['-O2', '-ffp-contract=off', '-fno-pic', '-fno-stack-protector'],
    `--target=${targets['x86-64'].triple}`,
    ...tools.headerOptions('x86-64', []),
    ...['-c', source, '-o', `${output}.o`],
  ])
  await tools.run('ld.lld', [
    ...['-static', '-o', output, path.join(musl, 'crt1.o'), path.join(musl, 'crti.o'), `${output}.o`],
    ...['--start-group', path.join(musl, 'libc.a'), tools.libgcc('x86-64'), '--end-group'],
    path.join(musl, 'crtn.o'),
  ])
}

/** User time in milliseconds, of the program alone. */
function userTime(program, args) {
  const script =
    'import resource,subprocess,sys; subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL,check=True); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime)'
  const result = spawnSync('python3', ['-c', script, program, ...args], { encoding: 'utf8' })
  if (result.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${result.stderr}`)
  return Number(result.stdout) * 1000
}

/** Milliseconds from SIGUSR2, sent `after` ms, to a process that is parked, and stays so; undefined when it had ended. */
async function timeToPark(program, args, after) {
  const child = spawn(program, args, { stdio: 'ignore' })
  const ended = new Promise(resolve => child.on('close', resolve))
  const stay = `/tmp/imago-park-${child.pid}`
  try {
    fs.writeFileSync(stay, '', { mode: 0o600 })
    await sleep(after)
    const begun = performance.now()
    child.kill('SIGUSR2')
    while (child.exitCode === null && child.signalCode === null) {
      const state = /^State:\s+(\w)/m.exec(fs.readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]
      if (state === 'S') return performance.now() - begun
      if (state === 'Z') return undefined
      await new Promise(resolve => setImmediate(resolve))
    }
    return undefined
  } finally {
    child.kill('SIGKILL')
    await ended
    fs.rmSync(stay, { force: true })
  }
}

const rows = [['program', 'clang -O2', 'imago cc', 'ratio', 'of pairs', 'asked', 'parks in']]
for (const [name, args, asked] of programs) {
  const source = path.join(root, 'workloads', `${name}.c`)
  const [plain, ours] = [path.join(folder, 'plain'), path.join(folder, 'ours')]
  await compilePlain(source, plain)
  const made = spawnSync(path.join(root, 'imago'), ['cc', '-O2', source, '-o', ours], {
    encoding: 'utf8',
  })
  if (made.status !== 0) throw new Error(made.stderr)
  const times = { plain: [], ours: [] }
  for (let i = 0; i < rounds; i++) {
    times.plain.push(userTime(plain, args))
    times.ours.push(userTime(`${ours}_x86-64`, args))
  }
  const [a, b] = [Math.min(...times.plain), Math.min(...times.ours)]
  const ratio = median(times.ours.map((time, i) => time / times.plain[i]))
  const waits = []
  for (let i = 0; i < 10; i++) waits.push(await timeToPark(`${ours}_x86-64`, args, 5 + (i * b) / 20))
  rows.push([
    `${path.basename(name)} ${args.join(' ')}`,
    durationText(a),
    durationText(b),
    (b / a).toFixed(2),
    ratio.toFixed(2),
    `${asked}`,
    durationText(Math.max(...waits.filter(wait => wait !== undefined))),
  ])
}
console.log(columns(rows, { right: [1, 2, 3, 4, 5, 6] }))
