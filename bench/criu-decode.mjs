#!/usr/bin/env node
/**
 * CRIU images beside CRIU's own tool (crit, Python), in one run:
 *   - a page map of 262,144 entries: decode and show, whole command lines, output to a file
 *   - `imago inspect` of a 4 GB dump (its pages file is a hole): time and memory
 *
 *   npm run bench -- criu-decode [--rounds 5]
 */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { performance } from 'node:perf_hooks'
import { commandLine, median, root, temporaryFolder } from './helpers/measuring.mjs'

const load = name => import(path.join(root, 'dist', name))
const { encodeImageFile, decodeImageFile } = await load('formats/criu/image-file.js')
const { kindByName } = await load('formats/criu/image-kinds.js')
const { PageMapCursor } = await load('formats/criu/page-map.js')
const { pagemap_entry, pagemap_head } = await load('formats/criu/schema/memory.js')
const { findPart } = await load('lib/parts.js')

const { rounds } = commandLine({ rounds: 5 })
const ENTRIES = 262_144
const GIGABYTES = 4
const crit = findPart('crit')
if (crit === undefined) {
  console.error('crit is not in the cache: npm run setup -- crit (and apt-get install python3-protobuf)')
  process.exit(5)
}

const folder = temporaryFolder()

/** A page map as criu 4.1 writes it: one page, then a gap of one. */
function pageMap(entries, pagesAnEntry) {
  const list = [{ type: pagemap_head, message: { pages_id: 1 } }]
  for (let i = 0; i < entries; i++)
    list.push({
      type: pagemap_entry,
      message: {
        vaddr: 0x10000000n + BigInt(i) * 8192n * BigInt(pagesAnEntry),
        compat_nr_pages: pagesAnEntry,
        flags: 4,
      },
    })
  return encodeImageFile({ kind: kindByName.get('PAGEMAP'), framing: 'common', entries: list })
}

const seconds = value => `${value.toFixed(value < 1 ? 3 : 2)} s`

/** Median wall time of a command in seconds, and its peak memory. */
function timed(command, words, env = {}) {
  const times = []
  let peak = 0
  for (let round = 0; round < rounds; round++) {
    const started = performance.now()
    const result = spawnSync('/usr/bin/env', ['time', '-f', 'peak %M', command, ...words], {
      stdio: ['ignore', fs.openSync(path.join(folder, 'out'), 'w'), 'pipe'],
      encoding: 'utf8',
      env: { ...process.env, ...env },
    })
    times.push((performance.now() - started) / 1000)
    if (result.status !== 0) throw new Error(`${command} ${words.join(' ')}: ${result.stderr}`)
    peak = Math.max(peak, Number(/peak (\d+)/.exec(result.stderr)?.[1] ?? 0))
  }
  return { time: median(times), peak }
}

const file = path.join(folder, 'pagemap-1.img')
const bytes = pageMap(ENTRIES, 1)
fs.writeFileSync(file, bytes)
console.log(
  `page map of ${ENTRIES} entries, ${bytes.length} bytes; median of ${rounds}; ${os.cpus()[0].model}\n`,
)

const imago = path.join(root, 'imago')
const python = ['/usr/bin/python3', { PYTHONPATH: path.join(crit, 'usr/lib/python3/dist-packages') }]
for (const [title, words] of [
  ['decode', ['decode', '-i', file]],
  ['decode --pretty', ['decode', '--pretty', '-i', file]],
  ['show', ['show', file]],
]) {
  const ours = timed(imago, ['criu', ...words])
  const mine = fs.readFileSync(path.join(folder, 'out'))
  const theirs = timed(python[0], ['-m', 'crit', ...words], python[1])
  if (Buffer.compare(mine, fs.readFileSync(path.join(folder, 'out'))) !== 0)
    throw new Error(`${title}: not the same JSON`)
  console.log(
    `${title.padEnd(16)} imago ${seconds(ours.time)} (${Math.round(ours.peak / 1024)} MB)   crit ${seconds(theirs.time)} (${Math.round(theirs.peak / 1024)} MB)   ${(theirs.time / ours.time).toFixed(1)} times faster, same bytes`,
  )
}

/** What decoding alone takes, without starting a program and writing text: in this process, and in crit's. */
const inProcess = work => {
  const times = []
  for (let round = 0; round < rounds; round++) {
    const started = performance.now()
    work()
    times.push((performance.now() - started) / 1000)
  }
  return median(times)
}
const cursor = inProcess(() => {
  const entries = new PageMapCursor(bytes)
  let pages = 0
  while (entries.next()) pages += entries.pages
  if (pages !== ENTRIES) throw new Error('wrong number of pages')
})
const records = inProcess(() => decodeImageFile(bytes))
const theirs = Number(
  spawnSync(
    python[0],
    [
      '-c',
      `import sys, time, pycriu
times = []
for _ in range(${rounds}):
    with open(sys.argv[1], 'rb') as file:
        started = time.perf_counter()
        pycriu.images.load(file, False, False)
        times.append(time.perf_counter() - started)
print(sorted(times)[len(times) // 2])`,
      file,
    ],
    { encoding: 'utf8', env: { ...process.env, ...python[1] } },
  ).stdout,
)
console.log(
  `library alone    cursor ${seconds(cursor)}, all records ${seconds(records)}   pycriu ${seconds(theirs)}   ${(theirs / cursor).toFixed(0)} and ${(theirs / records).toFixed(1)} times faster\n`,
)

// A dump of 4 GB: the sample with another page map; every second page is there.
for (const [title, run] of [
  ['runs of 64 pages', 64],
  ['single pages', 1],
]) {
  const dump = path.join(folder, `dump-${run}`)
  fs.cpSync(path.join(root, 'test/data/criu/x86-64'), dump, { recursive: true })
  const pages = (GIGABYTES * 2 ** 30) / 4096
  fs.writeFileSync(path.join(dump, 'pagemap-12623.img'), pageMap(pages / run, run))
  fs.truncateSync(path.join(dump, 'pages-1.img'), pages * 4096)
  const { time, peak } = timed(imago, ['inspect', dump])
  console.log(
    `inspect of a ${GIGABYTES} GB dump (${title}, ${pages / run} entries): ${seconds(time)}, ${Math.round(peak / 1024)} MB`,
  )
}
