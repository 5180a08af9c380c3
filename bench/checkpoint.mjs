/**
 * Checkpoint and restart of one process, imago's preload engine beside criu on the same kind of process in one run.
 *
 *   npm run bench -- checkpoint [--sizes 64,1024,4096] [--kinds random,zero] [--rounds 3]
 *
 *   pause    longest gap between two beats of the program (it measures itself)
 *   total    from the command to the finished image, the command's start-up included
 *   restore  from the start of the restorer (myrestart, criu restore) to the first beat of the restored program
 *   image    bytes on disk
 *   least    the shortest pause of all rounds: on a machine with other work, what is the tool's own
 *
 * First two small programs measure themselves, one that only computes and a python3 job that logs to a file: how long they stand still for a
 * checkpoint (asked for by kill -12), and for a bare fork.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { commandLine, median, root, temporaryFolder } from './helpers/measuring.mjs'

const { sizes, kinds, rounds } = commandLine({ sizes: '64,1024,4096', kinds: 'random,zero', rounds: 3 })
const imago = path.join(root, 'imago')
const restorer = execFileSync(imago, ['path', 'myrestart'], { encoding: 'utf8' }).trim()
const folder = temporaryFolder()
const program = path.join(folder, 'memory')
execFileSync('gcc', ['-O2', '-o', program, path.join(root, 'workloads/bench/memory.c')])

const beatFile = path.join(folder, 'beat')
const beat = { ready: 0, last: 8, gap: 16, launched: 32 }

function readBeat(field) {
  const fd = fs.openSync(beatFile, 'r')
  const bytes = Buffer.alloc(8)
  fs.readSync(fd, bytes, 0, 8, field)
  fs.closeSync(fd)
  return bytes.readBigUInt64LE()
}

function resetGap() {
  const fd = fs.openSync(beatFile, 'r+')
  fs.writeSync(fd, Buffer.alloc(8), 0, 8, beat.gap)
  fs.closeSync(fd)
}

function run(words) {
  const started = performance.now()
  const result = spawnSync(words[0], words.slice(1), { encoding: 'utf8', cwd: folder })
  if (result.status !== 0) throw new Error(`${words.join(' ')}: ${result.stderr || result.stdout}`)
  return performance.now() - started
}

function diskUsage(name) {
  return Number(execFileSync('du', ['-s', '--block-size=1', name], { encoding: 'utf8' }).split('\t')[0])
}

async function killAndWait(pid) {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {}
  while (isAlive(pid)) await sleep(5)
  await sleep(50)
}

/** Not gone, nor a zombie that only its parent can end. */
function isAlive(pid) {
  try {
    return !/\) Z /.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

/** How each engine starts, freezes and wakes the program. */
const image = path.join(folder, 'image')
const engines = {
  imago: {
    start: words => [imago, 'run', '--', ...words],
    checkpoint: pid => [imago, 'checkpoint', String(pid), '-o', image],
    // Lazily at every size; by default the restorer first checks all of an image of up to 64 MiB.
    restore: () => [restorer, '--no-verify', image],
  },
  criu: {
    start: words => words,
    checkpoint: pid => [
      ...criuCommand,
      'dump',
      '-t',
      String(pid),
      '-D',
      image,
      '--shell-job',
      '--leave-running',
      '-v0',
    ],
    restore: () => [...criuCommand, 'restore', '-D', image, '--shell-job', '-d', '-v0'],
  },
}
const criuCommand = await findCriu()

/** The command words of a criu that works here, or undefined. */
async function findCriu() {
  const { requireProgram } = await import(path.join(root, 'dist/engines/criu/program.js'))
  try {
    return requireProgram().command
  } catch {
    return undefined
  }
}

async function measure(engine, size, kind) {
  fs.rmSync(image, { recursive: true, force: true })
  if (engine === engines.criu) fs.mkdirSync(image)
  fs.rmSync(beatFile, { force: true })
  const words = engine.start([program, String(size), kind, beatFile])
  const child = spawn(words[0], words.slice(1), {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'ignore'],
    detached: true,
  })
  while (!fs.existsSync(beatFile) || fs.statSync(beatFile).size === 0 || readBeat(beat.ready) === 0n)
    await sleep(10)
  await sleep(200)
  resetGap()
  await sleep(50)
  const total = run(engine.checkpoint(child.pid))
  await sleep(20)
  const pause = Number(readBeat(beat.gap)) / 1e6
  await killAndWait(child.pid)
  const last = readBeat(beat.last)
  resetGap()
  spawn(program, ['launch', beatFile, ...engine.restore()], { cwd: folder, stdio: 'ignore', detached: true })
  const deadline = performance.now() + 60_000
  while (readBeat(beat.last) === last) {
    if (performance.now() > deadline) throw new Error('the restored program did not beat')
    await sleep(1)
  }
  // The first beat after the restore saw the gap since the last one before the kill.
  const restore = Number(last + readBeat(beat.gap) - readBeat(beat.launched)) / 1e6
  await sleep(100)
  const bytes = diskUsage(image)
  for (const pid of pidsOf(program)) await killAndWait(pid)
  return { pause, total, restore, size: bytes / 2 ** 20 }
}

const library = execFileSync(imago, ['path', 'libckpt.so'], { encoding: 'utf8' }).trim()

/** Tells how long a program that measures itself stands still: medians, and the least. */
function tellStandstill(what, file, words) {
  const said = execFileSync(file, words, {
    env: { ...process.env, LD_PRELOAD: library, IMAGO_OUTPUT: path.join(folder, 'small') },
    stdio: ['ignore', 'pipe', 'ignore'], // a file would be part of what a checkpoint keeps
    encoding: 'utf8',
  })
  const [pause, fork, leastPause, leastFork] = said.split(' ').map(time => (Number(time) / 1e6).toFixed(2))
  console.log(
    `${what} stands still for ${pause} ms, of which a bare fork takes ${fork} (medians of 50; least ${leastPause} and ${leastFork})`,
  )
}

/** Processes that run `binary`, restored ones included. */
function pidsOf(binary) {
  return fs
    .readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .filter(pid => {
      try {
        return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith(`${binary}\0`)
      } catch {
        return false
      }
    })
    .map(Number)
}

const figures = ['pause', 'total', 'restore', 'size']
const standstill = path.join(folder, 'standstill')
execFileSync('gcc', ['-O2', '-o', standstill, path.join(root, 'workloads/bench/standstill.c')])
tellStandstill('1 MB', standstill, ['1', '50'])
tellStandstill('python3 with a log', 'python3', [
  path.join(root, 'workloads/bench/logging.py'),
  path.join(folder, 'log'),
  '50',
])
console.log(
  `medians of ${rounds}; milliseconds, image in MiB${criuCommand ? '' : '; no criu on this host: npm run setup -- criu'}`,
)
console.log(`size  kind    tool   ${[...figures, 'least'].map(name => name.padStart(10)).join('')}`)
for (const size of sizes.split(',').map(Number))
  for (const kind of kinds.split(',')) {
    const medians = {}
    const samples = { imago: [], criu: [] }
    for (let round = 0; round < rounds; round++)
      for (const name of criuCommand ? ['imago', 'criu'] : ['imago'])
        samples[name].push(await measure(engines[name], size, kind))
    for (const name of Object.keys(samples).filter(each => samples[each].length > 0)) {
      medians[name] = Object.fromEntries(
        figures.map(figure => [figure, median(samples[name].map(sample => sample[figure]))]),
      )
      medians[name].least = Math.min(...samples[name].map(sample => sample.pause))
      console.log(
        `${String(size).padEnd(5)} ${kind.padEnd(7)} ${name.padEnd(6)} ${[...figures, 'least'].map(figure => medians[name][figure].toFixed(2).padStart(10)).join('')}`,
      )
    }
    if (medians.criu)
      console.log(
        `${' '.repeat(14)}criu/imago${[...figures, 'least']
          .map(figure => `${(medians.criu[figure] / medians.imago[figure]).toFixed(1)}×`.padStart(10))
          .join('')
          .slice(3)}`,
      )
  }
