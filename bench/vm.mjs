/**
 * The micro-VM beside a monitor in C (vm-monitor.c) that restores the same images and serves the same calls: boot and
 * restore to the first system call, system calls a second; computing against native; how long a guest stands still when
 * it is sent, cold and live. imago and its peer take turns. The engine's classes are used directly, in a worker
 * with the limits of the product's.
 *
 *   npm run bench -- vm [--rounds 15]
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { isMainThread, Worker, workerData } from 'node:worker_threads'
import { KvmCpu } from '../dist/engines/kvm/cpu.js'
import { initialState } from '../dist/engines/microvm/cpu.js'
import { newProcess } from '../dist/engines/microvm/guest.js'
import { GuestMemory } from '../dist/engines/microvm/guest-memory.js'
import { loadProgram } from '../dist/engines/microvm/load-program.js'
import { WORKER_OPTIONS } from '../dist/engines/microvm/micro-vm.js'
import { hostSide, Monitor } from '../dist/engines/microvm/monitor.js'
import { OpenFiles } from '../dist/engines/microvm/open-files.js'
import { restoreGuest } from '../dist/engines/microvm/restore.js'
import { saveGuest } from '../dist/engines/microvm/save.js'
import { openMicroVmFile } from '../dist/formats/microvm/image-file.js'
import { commandLine, median, root, temporaryFolder } from './helpers/measuring.mjs'

const CALLS = 10_000
/** How long a guest looks at the clock: long enough to be sent in, on a busy machine, too. */
const GAP_SECONDS = 20

/** Median and best: on a busy host only the best says what the work itself costs. */
const summary = values => ({ median: median(values), best: Math.min(...values) })
const number = value => value.toPrecision(3).padStart(6)
function show(what, values, unit, peerValues) {
  const { median: middle, best } = summary(values)
  const line = `${what.padEnd(40)} median ${number(middle)}  best ${number(best)} ${unit}`
  if (peerValues === undefined) return console.log(line)
  const peer = summary(peerValues)
  const ratios = `${(middle / peer.median).toFixed(2)}×, ${(best / peer.best).toFixed(2)}×`
  console.log(`${line}   C ${number(peer.median)} ${number(peer.best)}: ${ratios}`)
}

if (isMainThread) {
  const folder = temporaryFolder()
  const worker = new Worker(new URL(import.meta.url), {
    workerData: { folder, rounds: commandLine({ rounds: 15 }).rounds },
    ...WORKER_OPTIONS,
  })
  worker.on('error', error => {
    throw error
  })
} else await measure(workerData)

async function measure({ folder, rounds }) {
  execFileSync('make', ['-s', '-C', path.join(root, 'workloads/vm'), `OUT=${folder}`])
  const cMonitor = path.join(folder, 'vm-monitor')
  const flags = ['-std=c11', '-O2', '-Wall', '-Wextra', '-Werror']
  execFileSync('gcc', [...flags, '-o', cMonitor, path.join(root, 'bench/vm-monitor.c')])
  const program = name => path.join(folder, name)
  const shared = new Int32Array(new SharedArrayBuffer(64))
  const host = hostSide(shared, -1, () => {})

  function boot(file, memorySize, args = []) {
    const memory = GuestMemory.create(memorySize)
    const cpu = new KvmCpu(memory)
    const files = new OpenFiles(folder, false)
    files.connectStandardStreams()
    const process = newProcess(file)
    const { entry, stackPointer } = loadProgram(memory, process, file, [file, ...args], [])
    cpu.writeState(initialState(entry, stackPointer))
    return { memory, cpu, files, process, host }
  }
  function restore(image) {
    const options = { engine: 'kvm', rootFolder: folder, readOnly: false, files: 'reopen', ignoreCpu: false }
    return restoreGuest(image, memory => new KvmCpu(memory), host, options)
  }
  function release(guest) {
    guest.files.release()
    guest.cpu.release()
    guest.memory.release()
  }

  const starts = []
  for (let i = 0; i < rounds; i++) {
    const began = performance.now()
    const guest = boot(program('caramba'), 64 << 20)
    guest.cpu.run()
    starts.push(performance.now() - began)
    release(guest)
  }
  show('boot to first system call, 64 MiB', starts, 'ms')

  const perCall = { imago: [], c: [] }
  for (const [name, size] of [
    ['64 MiB', 64 << 20],
    ['2 GiB', 2 ** 31],
  ]) {
    const guest = boot(program('calls'), size, [String(CALLS)])
    new Monitor(guest, shared).run() // until system call 400
    const image = path.join(folder, `image-${name}`)
    saveGuest(guest, image, { withFiles: false, now: 0n })
    release(guest)
    const state = path.join(folder, 'state')
    writeStateForC(image, state)

    const toFirst = { imago: [], c: [] }
    for (let i = 0; i < rounds; i++) {
      const began = performance.now()
      const restored = restore(image)
      restored.cpu.run()
      const first = performance.now()
      toFirst.imago.push(first - began)
      release(restored)
      const again = restore(image)
      const loopBegan = performance.now()
      const monitor = new Monitor(again, shared)
      monitor.run()
      perCall.imago.push(((performance.now() - loopBegan) * 1000) / monitor.counters.systemCalls)
      release(again)
      const words = execFileSync(cMonitor, [image, state], { encoding: 'utf8' }).split(' ').map(Number)
      toFirst.c.push(words[0])
      perCall.c.push((words[2] * 1000) / words[1])
    }
    show(`restore to first system call, ${name}`, toFirst.imago, 'ms', toFirst.c)
  }
  show('a system call', perCall.imago, 'µs', perCall.c)

  const ratio = []
  for (let i = 0; i < 5; i++) {
    const began = performance.now()
    spawnSync(program('sort'), ['1000000'])
    const native = performance.now() - began
    const sorter = boot(program('sort'), 64 << 20, ['1000000'])
    sorter.files.get(1).hostFd = fs.openSync('/dev/null', 'w')
    const loopBegan = performance.now()
    new Monitor(sorter, shared).run()
    ratio.push((performance.now() - loopBegan) / native)
    release(sorter)
  }
  show('sort of a million, guest against native', ratio, 'times')

  for (const [name, words] of [
    ['cold', ['--after', '1500ms']],
    ['live', ['--after', '1500ms', '--live']],
  ]) {
    const gaps = []
    for (let i = 0; i < 3; i++) gaps.push(await standstill(folder, program('gap'), words))
    show(`longest standstill of 64 MB, sent ${name}`, gaps, 'ms')
  }
}

/** What vm-monitor.c needs to know of an image; the layout is drawn there. */
function writeStateForC(image, into) {
  const { record, memoryOffset, source } = openMicroVmFile(image)
  const head = Buffer.alloc(32)
  const lstar = record.cpu.msrs.find(({ index }) => index === 0xc0000082).value
  const words = [BigInt(memoryOffset), record.memoryBytes, lstar, record.cpu.xcr0]
  for (const [i, word] of words.entries()) head.writeBigUInt64LE(word, i * 8)
  const xsave = Buffer.alloc(4096)
  xsave.set(record.cpu.xsave)
  const { registers, special } = record.cpu
  const raw = Buffer.from(registers.buffer, registers.byteOffset, registers.byteLength)
  fs.writeFileSync(into, Buffer.concat([head, raw, special, xsave]))
  source.close()
}

/** Sends a guest to a server of this host, and lets it say how long it stood still. Milliseconds. */
async function standstill(folder, program, words) {
  const key = path.join(folder, 'key')
  fs.writeFileSync(key, crypto.randomBytes(32).toString('hex'), { mode: 0o600 })
  const imago = path.join(root, 'imago')
  const server = spawn(imago, ['vm', 'serve', '--port', '0', '--key', key], { cwd: folder })
  try {
    let text = ''
    for (const stream of [server.stdout, server.stderr]) stream.on('data', bytes => (text += bytes))
    const ended = new Promise(resolve => server.on('close', resolve))
    while (!/on port (\d+)/.test(text)) await new Promise(resolve => setTimeout(resolve, 20))
    const target = `127.0.0.1:${/on port (\d+)/.exec(text)[1]}`
    const memory = ['--memory', '128M', '--key', key, '--run', program]
    const all = ['vm', 'send', ...words, ...memory, target, '64', String(GAP_SECONDS)]
    const { stderr, status } = spawnSync(imago, all, { cwd: folder, encoding: 'utf8' })
    // A guest that ended here never comes to the server, which would wait for ever.
    if (status !== 0 || !stderr.includes('Sent ')) throw new Error(`the guest was not sent:\n${stderr}`)
    await ended
    return Number(/^([\d.]+)$/m.exec(text)[1])
  } finally {
    server.kill('SIGKILL')
  }
}
