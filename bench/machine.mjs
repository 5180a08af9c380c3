/**
 * Machine images: a QEMU stream → gem5 → QEMU beside gzip -1 and cp on the same bytes, and the text of a large
 * checkpoint beside Python's configparser.
 *
 *   npm run bench -- machine [--size 2048] [--filled 25] [--rounds 3]        size in MB, share of RAM that is not zero
 *
 * Peak memory is the largest resident set that the command itself had (getrusage by /usr/bin/time or wait4).
 */
import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import zlib from 'node:zlib'
import { commandLine, median, root, temporaryFolder } from './helpers/measuring.mjs'

const { size: megabytes, filled, rounds } = commandLine({ size: 2048, filled: 25, rounds: 3 })
const folder = temporaryFolder()
const at = name => path.join(folder, name)

const { openStream } = await import(path.join(root, 'dist/formats/qemu/read-stream.js'))
const { CheckpointText } = await import(path.join(root, 'dist/formats/gem5/checkpoint-text.js'))

/** A real stream of 32 MB with its RAM block made larger: the device state stays real. */
function makeStream(target) {
  const small = at('small')
  fs.writeFileSync(
    small,
    zlib.gunzipSync(fs.readFileSync(path.join(root, 'test/data/qemu/timer-min.qemu.gz'))),
  )
  const stream = openStream(small)
  const block = stream.block('pc.ram')
  const source = fs.readFileSync(small)
  const name = Buffer.from('\x06pc.ram', 'latin1')
  const sizeAt = source.indexOf(name) + name.length
  const totalAt = source.indexOf(name) - 8
  const grown = BigInt(megabytes) * 1048576n
  const total = source.readBigUInt64BE(totalAt) + grown - BigInt(block.size)
  source.writeBigUInt64BE(total, totalAt)
  source.writeBigUInt64BE(grown, sizeAt)
  fs.writeFileSync(small, source)
  const large = openStream(small)
  // Pages like those of a system: a quarter text-like and compressible, the rest zero.
  const page = Buffer.alloc(1 << 20)
  for (let i = 0; i < page.length; i++) page[i] = (i * i + (i >> 5)) & (i & 64 ? 0xff : 0x3f)
  const pattern = {
    size: page.length,
    path: undefined,
    readInto: (into, offset) => into.set(page.subarray(offset, offset + into.length)),
    read: (offset, length) => page.subarray(offset, offset + length),
    close() {},
  }
  const extents = []
  for (let mb = 32; mb < megabytes; mb++)
    if ((mb * 37) % 100 < filled)
      extents.push({
        address: BigInt(mb) << 20n,
        length: 1 << 20,
        content: { kind: 'slice', source: pattern, offset: 0 },
      })
  large.write(target, { memory: new Map([['pc.ram', large.block('pc.ram').memory.overlay(extents)]]) })
}

/** Runs a command; milliseconds and peak resident set in MB. */
function run(words) {
  const script =
    'import os,sys,time;t=time.time();p=os.posix_spawnp(sys.argv[1],sys.argv[1:],os.environ);_,s,r=os.wait4(p,0);print(s,(time.time()-t)*1000,r.ru_maxrss/1024,file=sys.stderr)'
  const result = spawnSync('python3', ['-c', script, ...words], {
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const [status, ms, peak] = result.stderr.trim().split('\n').at(-1).split(' ').map(Number)
  if (status !== 0) throw new Error(`${words.join(' ')}: ${result.stderr}`)
  return { ms, peak }
}

function measure(label, words, bytes, cleanup) {
  const runs = Array.from({ length: rounds }, () => {
    cleanup?.()
    return run(words)
  })
  const ms = median(runs.map(each => each.ms))
  const peak = Math.max(...runs.map(each => each.peak))
  console.log(
    `  ${label.padEnd(34)} ${(ms / 1000).toFixed(2).padStart(7)} s  ${(bytes / 1e6 / (ms / 1000)).toFixed(0).padStart(6)} MB/s of RAM  peak ${peak.toFixed(0).padStart(4)} MB`,
  )
  return ms
}

const imago = path.join(root, 'imago')
console.log(`A QEMU machine of ${megabytes} MB, ${filled} % of it filled; median of ${rounds}`)
makeStream(at('linux.qemu'))
const bytes = megabytes * 1048576
const clean = name => () => fs.rmSync(at(name), { recursive: true, force: true })
const toGem5 = measure(
  'QEMU → gem5 (gzip)',
  [imago, 'convert', at('linux.qemu'), '--to', 'gem5', '-o', at('g')],
  bytes,
  clean('g'),
)
const gzip = measure(
  '  beside: gzip -1 of the stream',
  ['sh', '-c', `gzip -1 < ${at('linux.qemu')} > ${at('z')}`],
  bytes,
)
measure(
  'QEMU → gem5 (--raw-ram)',
  [imago, 'convert', at('linux.qemu'), '--to', 'gem5', '--raw-ram', '-o', at('r')],
  bytes,
  clean('r'),
)
const copy = measure(
  '  beside: cp of the stream',
  ['cp', '--reflink=never', at('linux.qemu'), at('z')],
  bytes,
)
const back = measure(
  'gem5 (gzip) → QEMU',
  [imago, 'convert', at('g'), '--to', 'qemu', '--template', at('linux.qemu'), '-o', at('b')],
  bytes,
)
const gunzip = measure(
  '  beside: gzip -d of the store',
  ['sh', '-c', `gzip -dc ${at('g')}/*.pmem > ${at('z')}`],
  bytes,
)
measure(
  'gem5 (raw) → QEMU',
  [imago, 'convert', at('r'), '--to', 'qemu', '--template', at('linux.qemu'), '-o', at('b')],
  bytes,
)
console.log(
  `  ratios: to gem5 / gzip -1 = ${(toGem5 / gzip).toFixed(2)}, back / gzip -d = ${(back / gunzip).toFixed(2)}, cp = ${(copy / 1000).toFixed(2)} s`,
)

const text = at('m5.cpt')
const lines = ['## checkpoint generated: bench', '']
for (let section = 0; lines.length < 100_000; section++) {
  lines.push(
    `[system.cpu.workload.ptable.Entry${section}]`,
    `vaddr=${section * 4096}`,
    `paddr=${section * 8192}`,
    'flags=0',
    '',
  )
}
fs.writeFileSync(text, lines.join('\n'))
const processor = []
const ours = median(
  Array.from({ length: 9 }, () => {
    const started = performance.now()
    const used = process.cpuUsage()
    const read = CheckpointText.read(text)
    if (read.get('system.cpu.workload.ptable.Entry77', 'vaddr') !== String(77 * 4096))
      throw new Error('misread')
    const { user, system } = process.cpuUsage(used)
    processor.push((user + system) / 1000)
    return performance.now() - started
  }),
)
const python = Number(
  execFileSync(
    'python3',
    [
      '-c',
      'import configparser,sys,time\nt=time.time();c=configparser.ConfigParser(interpolation=None,strict=False);c.read_string(open(sys.argv[1]).read().split("\\n",1)[1]);assert c["system.cpu.workload.ptable.Entry77"]["vaddr"];print((time.time()-t)*1000)',
      text,
    ],
    { encoding: 'utf8' },
  ),
)
console.log(
  `m5.cpt of ${lines.length} lines: ${ours.toFixed(1)} ms (${median(processor).toFixed(1)} ms of processor time); Python's configparser ${python.toFixed(0)} ms, ratio ${(python / ours).toFixed(1)}`,
)
