/**
 * A program with a thread that never comes to a migration point cannot be frozen. The others, which wait for it there, must go on:
 * when imago has no more patience, when it is interrupted, when it is killed.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { requireProgram } from '../../../src/engines/criu/program.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { imago } from '../../helpers/imago.js'
import { sharedFolder, temporaryFolder } from '../../helpers/temporary-folder.js'
import { until } from '../preload/started.js'
import { missingCompiler } from './build.js'

/** The first thread counts; the second waits in open(), which is no migration point, until somebody writes to the fifo. */
const source = `
#include <fcntl.h>
#include <imago.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
static void *wait_for_ever(void *unused) {
  int fd = open("fifo", O_RDONLY);
  close(fd);
  return unused;
}
int main(void) {
  pthread_t thread;
  if (mkfifo("fifo", 0600) != 0 || pthread_create(&thread, NULL, wait_for_ever, NULL) != 0) return 1;
  int fd = open("ticks", O_WRONLY | O_CREAT, 0600);
  for (long tick = 0; access("stop", F_OK) != 0; tick++) {
    imago_migrate();
    if (pwrite(fd, &tick, sizeof tick, 0) != sizeof tick) return 2;
    usleep(500);
  }
  puts("the end");
  return 0;
}
`

let built: string | undefined

/** Compiled once for all tests. */
function compiled(): string {
  if (built !== undefined) return built
  const folder = sharedFolder()
  fs.writeFileSync(path.join(folder, 'stuck.c'), source)
  const result = imago(['cc', '-O2', path.join(folder, 'stuck.c'), '-o', path.join(folder, 'stuck')])
  if (result.code !== 0) throw new Error(result.stderr)
  built = path.join(folder, 'stuck_x86-64')
  return built
}

class Stuck {
  readonly folder = temporaryFolder()
  readonly #program: ChildProcess

  constructor() {
    this.#program = spawn(compiled(), { cwd: this.folder, stdio: 'ignore' })
    onTestFinished(() => {
      this.#program.kill('SIGKILL')
    })
  }

  get pid(): string {
    return String(this.#program.pid)
  }

  tick(): bigint {
    try {
      return fs.readFileSync(path.join(this.folder, 'ticks')).readBigInt64LE()
    } catch {
      return -1n // not yet there, or not yet written
    }
  }

  async counts(): Promise<void> {
    const now = this.tick()
    await until(() => this.tick() > now + 10n)
  }

  async standsStill(): Promise<void> {
    for (let i = 0; i < 100; i++) {
      const before = this.tick()
      await sleep(200)
      if (before === this.tick()) return
    }
    throw new Error('nobody made it wait')
  }

  /** imago, asking it for an image in the background. */
  ask(): ChildProcess & { readonly ended: Promise<number | NodeJS.Signals> } {
    const words = ['checkpoint', this.pid, '-o', path.join(this.folder, 'image')]
    const child = spawn(path.join(packageRoot, 'imago'), words, { stdio: 'ignore' })
    onTestFinished(() => {
      child.kill('SIGKILL')
    })
    const ended = new Promise<number | NodeJS.Signals>(resolve =>
      child.on('exit', (code, signal) => resolve(code ?? signal!)),
    )
    return Object.assign(child, { ended })
  }

  /** Once the thread can come, there is an image. */
  async canBeFrozenAfterAll(): Promise<void> {
    await fs.promises.writeFile(path.join(this.folder, 'fifo'), '')
    const image = path.join(this.folder, 'image')
    expect(imago(['checkpoint', this.pid, '-o', image])).toMatchObject({ code: 0 })
    expect(imago(['verify', image])).toMatchObject({ code: 0 })
    await this.counts()
  }
}

const reason = missingCompiler() ?? (process.arch === 'x64' ? undefined : 'the program is started on x86-64')

test('without patience left imago says what is missing, leaves no image, and the program goes on', async ({
  skip,
}) => {
  skip(reason !== undefined, reason)
  const stuck = new Stuck()
  await stuck.counts()
  const image = path.join(stuck.folder, 'image')
  const result = imago(['checkpoint', stuck.pid, '-o', image, '--patience', '300ms'])
  expect(result).toMatchObject({ code: 5, stderr: expect.stringContaining('migration point') })
  expect(fs.existsSync(image)).toBe(false)
  await stuck.counts()
  await stuck.canBeFrozenAfterAll()
})

for (const [signal, expected] of [
  ['SIGINT', 130],
  ['SIGKILL', 'SIGKILL'],
] as const)
  test(`when ${signal} ends the imago that asked, the program goes on`, async ({ skip }) => {
    skip(reason !== undefined, reason)
    const stuck = new Stuck()
    await stuck.counts()
    const asking = stuck.ask()
    await until(() => fs.readdirSync('/tmp').some(name => name.startsWith(`imago-request-${stuck.pid}-`)))
    await stuck.standsStill()
    asking.kill(signal)
    expect(await asking.ended).toBe(expected)
    await stuck.counts()
    await stuck.canBeFrozenAfterAll()
  })

test('criu does not get it either, and the program goes on', async ({ skip }) => {
  skip(reason !== undefined, reason)
  skip(process.getuid!() !== 0, 'criu needs root')
  try {
    requireProgram()
  } catch (error) {
    skip((error as Error).message)
  }
  const stuck = new Stuck()
  await stuck.counts()
  const image = path.join(stuck.folder, 'image')
  const result = imago(['checkpoint', stuck.pid, '-o', image, '--engine', 'criu', '--patience', '300ms'])
  expect(result).toMatchObject({ code: 5, stderr: expect.stringContaining('migration point') })
  expect(fs.existsSync(image)).toBe(false)
  await stuck.counts()
  await stuck.canBeFrozenAfterAll()
})
