/** Real programs with deterministic output and visible progress, for freezing at random moments. */

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { packageRoot } from '../../src/lib/parts.js'
import { execFileSync } from './bounded.js'

export interface RealProgram {
  readonly name: string
  /** Command line; run in a fresh folder, its stdout is the result. */
  readonly command: readonly string[]
  /** Files it needs in that folder. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>
}

const built = new Map<string, string>()

/** Compiles `workloads/<source>.c` once a test run; returns the binary. */
export function buildWorkload(source: string, flags: readonly string[] = []): string {
  const known = built.get(source)
  if (known) return known
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-workload-'))
  process.once('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
  const binary = path.join(folder, path.basename(source))
  execFileSync('gcc', [
    '-O2',
    '-std=gnu11',
    '-pthread',
    '-o',
    binary,
    path.join(packageRoot, 'workloads', `${source}.c`),
    ...flags,
  ])
  built.set(source, binary)
  return binary
}

const primes = `
import sys
found = []
n = 2
while len(found) < 9000:
    if all(n % p for p in found if p * p <= n):
        found.append(n)
        if len(found) % 500 == 0:
            print(len(found), n, sum(found) % 1000003, flush=True)
    n += 1
`

/** Threads wake its event loop by a pair of sockets. */
const coroutines = `
import asyncio
def work(n):
    return sum(i * i % 97 for i in range(n * 100))
async def take(queue, found):
    while (n := await queue.get()) is not None:
        found[n] = await asyncio.to_thread(work, n)
        queue.task_done()
async def main():
    queue, found = asyncio.Queue(), {}
    takers = [asyncio.create_task(take(queue, found)) for _ in range(3)]
    for batch in range(40):
        for i in range(8):
            queue.put_nowait(batch * 8 + i)
        await asyncio.wait_for(queue.join(), 60)
        await asyncio.sleep(0.005)
        print(batch, sum(found.values()), flush=True)
    for _ in takers:
        queue.put_nowait(None)
    await asyncio.gather(*takers)
asyncio.run(main())
`

const collatz = `
const { writeSync } = require('node:fs')
let best = 0, sum = 0n
const cache = new Map()
function step(n) {
  let count = 0
  while (n !== 1) { n = n % 2 === 0 ? n / 2 : 3 * n + 1; count++ }
  return count
}
let n = 1
function slice() {
  for (const end = n + 20000; n < end; n++) {
    const count = step(n)
    cache.set(n % 5000, [count, String(n)])
    sum += BigInt(count) * BigInt(n)
    if (count > best) best = count
  }
  writeSync(1, n + ' ' + best + ' ' + sum + ' ' + cache.size + '\\n')
  if (n < 600000) setTimeout(slice, 1)
}
slice()
`

const sql = `
CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);
${Array.from(
  { length: 25 },
  (_, i) => `
INSERT INTO t SELECT a + ${i} * 4000, hex(a * 7919 % 10007) FROM (WITH RECURSIVE c(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM c WHERE a < 4000) SELECT a FROM c);
SELECT ${i}, count(*), sum(length(b)), sum(a * unicode(b) % 97) FROM t;`,
).join('')}
`

const bash = `
sum=0
for ((i = 1; i <= 400000; i++)); do
  sum=$(((sum * 31 + i) % 1000003))
  if ((i % 20000 == 0)); then echo "$i $sum"; fi
done
printf 'done %d\\n' "$sum"
`

/** Text that xz has to work on: words in an order that does not repeat soon. */
function someText(size: number): string {
  const words = 'checkpoint restore image process memory page thread signal register frame stack heap'.split(
    ' ',
  )
  let state = 12345
  let text = ''
  while (text.length < size) {
    state = (state * 1103515245 + 12345) % 2147483648
    text += `${words[(state >> 8) % words.length]}${state % 1000} `
  }
  return text
}

/** python3, also with asyncio, node, sqlite3, bash, xz, four threads, pipes to itself. */
export function realPrograms(): RealProgram[] {
  return [
    { name: 'python3', command: ['python3', 'primes.py'], files: { 'primes.py': primes } },
    {
      name: 'python3 with coroutines',
      command: ['python3', 'coroutines.py'],
      files: { 'coroutines.py': coroutines },
    },
    { name: 'node', command: [process.execPath, 'collatz.cjs'], files: { 'collatz.cjs': collatz } },
    {
      name: 'sqlite3',
      command: ['sqlite3', 'work.db', '-init', 'work.sql', '.quit'],
      files: { 'work.sql': sql },
    },
    { name: 'bash', command: ['bash', 'loop.sh'], files: { 'loop.sh': bash } },
    { name: 'xz', command: ['xz', '-6', '--stdout', 'text'], files: { text: someText(4_000_000) } },
    { name: 'four threads', command: [buildWorkload('programs/threads4'), '4000000'] },
    { name: 'pipes to itself', command: [buildWorkload('programs/pipes'), '1000000'] },
  ]
}
