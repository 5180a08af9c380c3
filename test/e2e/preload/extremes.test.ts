/** Many mappings, growing stacks, two checkpoints at once, what killed writers leave, and how a long one tells its progress. */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { nativePart } from '../../../src/engines/preload/native-parts.js'
import { verify } from '../../../src/formats/core/verify.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { execFileSync, spawnSync } from '../../helpers/bounded.js'
import { canBeFrozen, imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { compile, read, start, until } from './started.js'

/** argv[1] MiB of memory that is not zero; then waits for `go`, and ends with 9. */
const large = `
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
int main(int count, char **words) {
  const size_t size = (size_t)atoi(words[count - 1]) << 17;
  uint64_t *memory = malloc(size * 8), x = 88172645463325252u;
  for (size_t i = 0; i < size; i++) x ^= x << 13, x ^= x >> 7, x ^= x << 17, memory[i] = x;
  write(1, "up\\n", 3);
  while (access("go", F_OK) != 0) usleep(5000);
  return 9;
}`

async function startLarge(folder: string, mebibytes: number) {
  const child = start(folder, ['run', '--', compile(folder, 'large', large), String(mebibytes)], 'out')
  await until(() => read(folder, 'out').includes('up'))
  return child
}

describe('more segments than e_phnum can hold (PN_XNUM)', () => {
  /** argv[1] mappings that cannot merge: pages readable and not by turns, each of the former with its own number. */
  const mapper = `
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int count, char **words) {
  const long pages = atol(words[count - 1]);
  char *memory = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  for (long i = 0; i < pages; i += 2) {
    *(long *)(memory + i * 4096) = i + 1;
    if (mprotect(memory + i * 4096, 4096, PROT_READ) != 0) return 1;
  }
  write(1, "up\\n", 3);
  while (access("go", F_OK) != 0) usleep(5000);
  for (long i = 0; i < pages; i += 2)
    if (*(long *)(memory + i * 4096) != i + 1) return 2;
  return 9;
}`

  async function roundTrip(library: string, mappings: number) {
    const folder = temporaryFolder()
    const image = path.join(folder, 'myckpt')
    const out = fs.openSync(path.join(folder, 'out'), 'a')
    const child = spawn(compile(folder, 'mapper', mapper), [String(mappings)], {
      cwd: folder,
      stdio: ['ignore', out, out],
      env: { ...process.env, LD_PRELOAD: library },
    })
    fs.closeSync(out)
    onTestFinished(() => void child.kill('SIGKILL'))
    await until(() => read(folder, 'out').includes('up'))
    child.kill('SIGUSR2')
    await until(() => fs.existsSync(image))
    child.kill('SIGKILL')
    expect(fs.readFileSync(image).readUInt16LE(56)).toBe(0xffff)
    const readelf = spawnSync('readelf', ['-lW', image], { encoding: 'utf8', maxBuffer: 1 << 28 })
    const loads = readelf.stdout.match(/^ {2}LOAD /gm)?.length ?? 0
    expect(readelf.stderr).toBe('')
    expect(loads).toBeGreaterThanOrEqual(mappings)
    expect(await verify(image)).toEqual([])
    const seen = JSON.parse(imago(['inspect', '--json', image]).stdout)
    expect(seen.processes[0].mappings.length).toBeGreaterThanOrEqual(loads)
    fs.writeFileSync(path.join(folder, 'go'), '')
    expect(imago(['restore', image]).code).toBe(9)
  }

  test('70,000 mappings', async ({ skip }) => {
    const limit = Number(fs.readFileSync('/proc/sys/vm/max_map_count', 'utf8'))
    skip(limit < 71_000, `this kernel allows a program ${limit} mappings (vm.max_map_count)`)
    await roundTrip(nativePart('libckpt.so'), 70_000)
  })

  test('the same form with fewer, by a library that uses it from 64 on', async () => {
    const folder = temporaryFolder()
    execFileSync(
      'make',
      ['-s', '-C', path.join(packageRoot, 'native'), `BUILD=${folder}`, `${folder}/libckpt.so`],
      {
        env: { ...process.env, CFLAGS: '-DMANY_HEADERS=64' },
      },
    )
    await roundTrip(path.join(folder, 'libckpt.so'), 2000)
  })
})

test('stacks grow on after a restore: the first one, and one of MAP_GROWSDOWN', async () => {
  const folder = temporaryFolder()
  const source = `
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static char *deepest;
__attribute__((noinline)) static int descend(int depth) {
  volatile char frame[4096];
  memset((void *)frame, depth, sizeof frame);
  if (deepest == 0 || (char *)frame < deepest) deepest = (char *)frame;
  return (depth == 0 ? 0 : descend(depth - 1)) + frame[17] - (char)depth;
}
int main(void) {
  char *down = mmap((void *)0x40000000, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
  down[0] = 1;
  write(1, "up\\n", 3);
  while (access("go", F_OK) != 0) usleep(5000);
  for (int page = 1; page <= 200; page++) down[-4096 * page] = page; /* each touch makes it grow */
  for (int page = 1; page <= 200; page++)
    if (down[-4096 * page] != (char)page) return 1;
  return descend(1500) == 0 ? 9 : 2; /* 6 MB of the 8 that are usual */
}`
  const child = start(folder, ['run', '--', compile(folder, 'deep', source, '-O0')], 'out')
  await until(() => read(folder, 'out').includes('up'))
  const image = path.join(folder, 'image')
  expect(imago(['checkpoint', String(child.pid), '-o', image, '--stop']).code).toBe(0)
  fs.writeFileSync(path.join(folder, 'go'), '')
  expect(imago(['restore', image])).toMatchObject({ code: 9 })
})

test('a second checkpoint while one is being written is refused with the reason, and the first ends well', async () => {
  const folder = temporaryFolder()
  const child = await startLarge(folder, 256)
  const image = path.join(folder, 'image')
  const first = start(folder, ['checkpoint', String(child.pid), '-o', image], 'first')
  const writer = () => {
    const name = fs.readdirSync('/tmp').find(each => each.startsWith(`imago-reply-${child.pid}-`))
    return Number(/^writer (\d+)$/m.exec(name === undefined ? '' : read('/tmp', name))?.[1])
  }
  await until(() => writer() > 0)
  const pid = writer()
  process.kill(pid, 'SIGSTOP')
  try {
    const second = imago(['checkpoint', String(child.pid), '-o', path.join(folder, 'second')])
    expect(second.code).not.toBe(0)
    expect(second.stderr).toContain('the last one is still being written')
  } finally {
    process.kill(pid, 'SIGCONT')
  }
  await until(() => first.exitCode !== null)
  expect(first.exitCode).toBe(0)
  expect(await verify(image)).toEqual([])
  expect(fs.readdirSync(folder).filter(name => name.includes('second'))).toEqual([])
})

test('what a killed writer left is swept by the next checkpoint to the same name, and nothing else', async () => {
  const folder = temporaryFolder()
  const child = await startLarge(folder, 1)
  await canBeFrozen(child.pid!)
  const gone = spawnSync('true').pid
  const swept = [`.image.${gone}.tmp`]
  const kept = [
    `.image.${process.pid}.tmp`,
    `.other.${gone}.tmp`,
    `.image.${gone}.tmp.old`,
    `.image.x${gone}.tmp`,
  ]
  for (const name of [...swept, ...kept]) fs.writeFileSync(path.join(folder, name), 'half')
  expect(imago(['checkpoint', String(child.pid), '-o', path.join(folder, 'image')]).code).toBe(0)
  const left = fs.readdirSync(folder).filter(name => name.startsWith('.'))
  expect(left.sort()).toEqual([...kept].sort())
})

test('a long checkpoint tells how far it is', async () => {
  const folder = temporaryFolder()
  const child = await startLarge(folder, 256)
  const { checkpoint } = await import('../../../src/engines/preload/checkpoint.js')
  const told: number[] = []
  const details: string[] = []
  await checkpoint(child.pid!, {
    output: path.join(folder, 'image'),
    stop: true,
    onProgress: (fraction, detail) => {
      told.push(fraction)
      details.push(detail)
    },
  })
  expect(told.length).toBeGreaterThan(4)
  expect(told).toEqual([...told].sort((a, b) => a - b))
  expect(Math.max(...told)).toBeLessThanOrEqual(1)
  expect(details[0]).toMatch(/^writing, \d+ MiB$/)
  expect(details.at(-1)).toBe('verifying')
})

test('shared memory of a size that does not wait in memory until the program goes on', async () => {
  const folder = temporaryFolder()
  const source = `
#include <sys/mman.h>
#include <unistd.h>
enum { PAGES = 24 << 8 }; /* 24 MiB */
int main(void) {
  char *memory = mmap(0, PAGES * 4096l, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (long i = 0; i < PAGES; i++) *(long *)(memory + i * 4096) = i + 1;
  write(1, "up\\n", 3);
  while (access("go", F_OK) != 0) usleep(5000);
  for (long i = 0; i < PAGES; i++)
    if (*(long *)(memory + i * 4096) != i + 1) return 1;
  return 9;
}`
  const child = start(folder, ['run', '--', compile(folder, 'sharing', source)], 'out')
  await until(() => read(folder, 'out').includes('up'))
  const image = path.join(folder, 'image')
  expect(imago(['checkpoint', String(child.pid), '-o', image, '--stop'])).toMatchObject({ code: 0 })
  expect(await verify(image)).toEqual([])
  fs.writeFileSync(path.join(folder, 'go'), '')
  expect(imago(['restore', image])).toMatchObject({ code: 9 })
})

test('what a writer leaves that is killed goes with the imago that waited for it', async () => {
  const folder = temporaryFolder()
  const child = await startLarge(folder, 256)
  const temporary = () => fs.readdirSync(folder).find(name => /^\.image\.\d+\.tmp$/.test(name))
  const askAndKill = async () => {
    const asked = start(folder, ['checkpoint', String(child.pid), '-o', path.join(folder, 'image')], 'said')
    await until(() => temporary() !== undefined || asked.exitCode !== null)
    const writer = Number(/\d+/.exec(temporary() ?? '')?.[0])
    try {
      if (writer > 0) process.kill(writer, 'SIGKILL')
    } catch {} // it was quicker
    await until(() => asked.exitCode !== null)
    return asked.exitCode
  }
  let code = await askAndKill()
  while (code === 0) {
    fs.rmSync(path.join(folder, 'image'))
    code = await askAndKill()
  }
  expect(code).toBe(1)
  expect(read(folder, 'said')).toContain('the writer of the image has ended')
  expect(fs.readdirSync(folder).filter(name => name.includes('image'))).toEqual([])
})
