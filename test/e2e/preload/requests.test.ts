/** Who asks for a checkpoint always gets an answer, and the program always goes on: whoever comes and goes meanwhile. */
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { queueSignal } from '../../../src/engines/preload/libc.js'
import { nativePart } from '../../../src/engines/preload/native-parts.js'
import { verify } from '../../../src/formats/core/verify.js'
import { lockFile } from '../../../src/lib/libc.js'
import { spawnSync } from '../../helpers/bounded.js'
import { canBeFrozen, imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { Frozen } from './freezer.js'
import { compile, read, start, until } from './started.js'

/** Makes threads that end at once, in three threads, for ever. */
const churning = `
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static void *end(void *unused) { return unused; }
static void *make(void *unused) {
  for (pthread_t thread;;)
    if (pthread_create(&thread, 0, end, 0) == 0) pthread_join(thread, 0);
  return unused;
}
int main(void) {
  pthread_t thread;
  for (int i = 0; i < 3; i++) pthread_create(&thread, 0, make, 0);
  write(1, "up\\n", 3);
  for (;;) pause();
}`

/** Holds some memory, and counts up on stdout. */
const counting = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **words) {
  const size_t size = atol(words[count - 1]) << 20;
  memset(malloc(size), 7, size);
  for (int i = 0;; i++) {
    printf("%d\\n", i);
    fflush(stdout);
    usleep(5000);
  }
}`

async function startCounting(folder: string, mebibytes: number) {
  const child = start(folder, ['run', '--', compile(folder, 'counting', counting), String(mebibytes)], 'out')
  await until(() => read(folder, 'out').includes('0\n'))
  await canBeFrozen(child.pid!)
  return child
}

/** Value of the signal by which the imago with this pid asks (native/preload/options.c). */
const requestOf = (pid: number) => 0x6f67616d69n | (BigInt(pid) << 40n)

async function expectToCount(folder: string) {
  const seen = read(folder, 'out').length
  await until(() => read(folder, 'out').length > seen)
}

test('threads that are just ending do not keep the others standing', async () => {
  const folder = temporaryFolder()
  const program = compile(folder, 'churning', churning, '-pthread')
  const child = start(folder, ['run', '--', program], 'out')
  await until(() => read(folder, 'out').includes('up'))
  for (let i = 0; i < 15; i++) {
    const frozen = imago(['checkpoint', String(child.pid), '-o', path.join(folder, 'image')])
    expect(frozen, `checkpoint ${i}`).toMatchObject({ code: 0 })
  }
})

test('checkpoints asked for at the same time: one is made, the others are told why not', async () => {
  const folder = temporaryFolder()
  const child = await startCounting(folder, 64)
  for (let round = 0; round < 3; round++) {
    const names = [0, 1, 2].map(i => `${round}-${i}`)
    const asked = names.map(name =>
      start(folder, ['checkpoint', String(child.pid), '-o', path.join(folder, `image-${name}`)], name),
    )
    await until(() => asked.every(each => each.exitCode !== null))
    const made = names.filter((_, i) => asked[i]!.exitCode === 0)
    expect(made.length).toBeGreaterThan(0)
    for (const name of names)
      if (made.includes(name)) expect(await verify(path.join(folder, `image-${name}`))).toEqual([])
      else
        expect(read(folder, name)).toMatch(/another checkpoint of it is just being taken|still being written/)
  }
  await expectToCount(folder)
})

test('a program that stands still for imago goes on as soon as that has gone, not before', async () => {
  const folder = temporaryFolder()
  const child = await startCounting(folder, 1)
  const image = path.join(folder, 'image')
  const [request, reply] = ['request', 'reply'].map(kind => `/tmp/imago-${kind}-${child.pid}-${process.pid}`)
  // As `imago checkpoint --stop` does, up to where it verifies the image.
  const lock = fs.openSync(reply!, 'wx', 0o600)
  onTestFinished(() => fs.rmSync(reply!, { force: true }))
  expect(lockFile(lock)).toBe(true)
  fs.writeFileSync(request!, `reply ${reply}\noutput ${image}\nhold\n`, { mode: 0o600 })
  expect(queueSignal(child.pid!, 12, requestOf(process.pid))).toBe(0)
  await until(() => fs.readFileSync(reply!, 'utf8').includes('done'))
  expect(await verify(image)).toEqual([])
  const seen = read(folder, 'out').length
  await sleep(200)
  expect(read(folder, 'out').length).toBe(seen)
  fs.closeSync(lock) // as the kernel does for one that is killed
  await expectToCount(folder)
})

test('the signal of an imago that has taken its request back makes no image', async () => {
  const folder = temporaryFolder()
  const child = await startCounting(folder, 1)
  const nobody = spawnSync('true').pid!
  expect(queueSignal(child.pid!, 12, requestOf(nobody))).toBe(0)
  await expectToCount(folder)
  expect(imago(['checkpoint', String(child.pid), '-o', path.join(folder, 'image')]).code).toBe(0)
  expect(fs.existsSync(path.join(folder, 'myckpt'))).toBe(false)
})

test('what killed imagos left in /tmp is swept by the next one, and nothing else', async () => {
  const folder = temporaryFolder()
  const child = await startCounting(folder, 1)
  const gone = spawnSync('true').pid
  const long = new Date(Date.now() - 60_000)
  const files = ['reply', 'request'].flatMap(kind =>
    ['old', 'young', 'locked'].map((state, i) => ({
      state,
      kind,
      file: `/tmp/imago-${kind}-${gone}-${900_000_000 + (child.pid! % 10_000_000) * 10 + i}`,
    })),
  )
  for (const { file, state, kind } of files) {
    const fd = fs.openSync(file, 'wx', 0o600)
    onTestFinished(() => fs.rmSync(file, { force: true }))
    if (state !== 'young') fs.futimesSync(fd, long, long)
    if (state === 'locked' && kind === 'reply') {
      expect(lockFile(fd)).toBe(true)
      onTestFinished(() => fs.closeSync(fd))
    } else fs.closeSync(fd)
  }
  expect(imago(['checkpoint', String(child.pid), '-o', path.join(folder, 'image')]).code).toBe(0)
  const left = files.filter(({ file }) => fs.existsSync(file)).map(({ kind, state }) => `${state} ${kind}`)
  expect(left).toEqual(['young reply', 'locked reply', 'young request', 'locked request'])
})

test.for([
  ['lazily', []],
  ['eagerly', ['--eager']],
] as const)('a program is frozen again after libckpt.so has been replaced, and after a restore (%s) with the new one', async ([
  ,
  options,
]) => {
  const folder = temporaryFolder()
  const library = path.join(folder, 'libckpt.so')
  const replace = () => {
    fs.copyFileSync(nativePart('libckpt.so'), `${library}.new`)
    fs.renameSync(`${library}.new`, library)
  }
  replace()
  const program = new Frozen(compile(folder, 'counting', counting), ['1'], folder, { LD_PRELOAD: library })
  onTestFinished(() => program.abandon())
  await program.until(() => program.output().includes('0\n'), 'first number')
  replace()
  expect(imago(['checkpoint', String(program.pid), '-o', program.image, '--stop'])).toMatchObject({ code: 0 })
  replace()
  await program.restart(...options)
  const again = path.join(folder, 'again')
  expect(imago(['checkpoint', String(program.pid), '-o', again])).toMatchObject({ code: 0 })
  expect(await verify(again)).toEqual([])
})

test('a program that takes SIGUSR2 for itself is frozen all the same, and has it again when restored', async () => {
  const folder = temporaryFolder()
  const source = `
#include <signal.h>
#include <unistd.h>
static volatile sig_atomic_t seen;
static void on_signal(int number) { seen = number; }
int main(void) {
  signal(SIGUSR2, on_signal);
  write(1, "up", 2);
  while (access("go", F_OK) != 0) usleep(5000);
  if (seen != 0) return 1;
  raise(SIGUSR2);
  return seen == SIGUSR2 ? 9 : 2;
}`
  const child = start(folder, ['run', '--', compile(folder, 'taking', source)], 'out')
  await until(() => read(folder, 'out') === 'up')
  const images = ['first', 'second'].map(name => path.join(folder, name))
  for (const image of images)
    expect(imago(['checkpoint', String(child.pid), '-o', image])).toMatchObject({ code: 0 })
  child.kill('SIGKILL')
  fs.writeFileSync(path.join(folder, 'go'), '')
  for (const image of images) expect(imago(['restore', image]).code).toBe(9)
})
