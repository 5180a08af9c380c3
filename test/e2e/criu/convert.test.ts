import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { criu } from '../../../src/formats/criu/format.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { execFileSync } from '../../helpers/bounded.js'
import { missingCriu } from '../../helpers/criu-program.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const missing = missingCriu()

const threads = `
#include <pthread.h>
#include <unistd.h>
volatile int numbers[3] = { 11, 22, 33 };
void *waiting_thread(void *unused) { for (;;) pause(); return unused; }
int main(void) { pthread_t t; pthread_create(&t, 0, waiting_thread, 0); for (;;) pause(); }
`

const counter = `
import os, sys, time
count = 0
while not os.path.exists(sys.argv[1] + '/stop'):
    print(count, flush=True); count += 1; time.sleep(0.02)
os._exit(5)
`

async function until(condition: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + 60_000; !condition(); await new Promise(go => setTimeout(go, 20)))
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`)
}

function ok(words: readonly string[]) {
  const result = imago(words)
  expect(result.code, result.stderr).toBe(0)
  return result
}

describe('CRIU images and cores', () => {
  beforeEach(({ skip }) => skip(missing !== undefined, missing))

  test('gdb opens a CRIU dump as a core: all threads, where they are, and the memory', async () => {
    const folder = temporaryFolder()
    const binary = path.join(folder, 'prog')
    execFileSync('gcc', ['-g', '-pthread', '-x', 'c', '-', '-o', binary], { input: threads })
    const child = spawn(binary, { cwd: '/', stdio: 'ignore', detached: true })
    onTestFinished(() => void child.kill('SIGKILL'))
    await until(() => fs.readdirSync(`/proc/${child.pid}/task`).length === 2, 'two threads')
    const [dump, core] = [path.join(folder, 'dump'), path.join(folder, 'core')]
    ok(['checkpoint', String(child.pid), '--engine', 'criu', '-o', dump, '--stop'])
    ok(['convert', dump, '--to', 'core', '-o', core])
    const words = ['thread apply all bt', 'print numbers'].flatMap(command => ['-ex', command])
    const said = execFileSync('gdb', ['-batch', '-nx', ...words, binary, core], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    expect(said).toContain('in waiting_thread')
    expect(said).toContain('in main ()')
    expect(said).toContain('{11, 22, 33}')
    // A core holds more pages (the files' own), no other registers, and no other bytes but registers below each thread's stack.
    const [differences] = JSON.parse(imago(['diff', dump, core, '--json']).stdout).processes
    for (const thread of differences.threads) expect(thread.registers).toEqual([])
    const stacks = (await criu.read!(dump)).processes[0]!.threads.map(
      thread => thread.registers.general.get('rsp')!,
    )
    for (const { change, start } of differences.pages as { change: string; start: string }[])
      if (change !== 'added')
        expect(stacks.some(stack => BigInt(start) < stack && BigInt(start) + 8192n > stack)).toBe(true)
  })

  test('what the preload engine froze goes on under real criu, to its own exit code', async ({ skip }) => {
    skip(
      !fs.existsSync(path.join(packageRoot, 'native/build')),
      'the native parts are not built (npm run setup)',
    )
    const folder = temporaryFolder()
    const log = path.join(folder, 'log')
    const [image, dump] = [path.join(folder, 'image'), path.join(folder, 'dump')]
    const out = fs.openSync(log, 'w')
    const run = spawn(
      path.join(packageRoot, 'imago'),
      ['run', '-o', image, '--', 'python3', '-c', counter, folder],
      { cwd: folder, stdio: ['ignore', out, out], detached: true },
    )
    fs.closeSync(out)
    const lines = () => fs.readFileSync(log, 'utf8').trim().split('\n')
    await until(() => lines().length > 5, 'the program counts')
    const children = fs.readFileSync(`/proc/${run.pid}/task/${run.pid}/children`, 'utf8').trim()
    const pid = children === '' ? String(run.pid) : children
    ok(['checkpoint', pid, '--stop', '-o', image])
    await until(() => !fs.existsSync(`/proc/${pid}`), 'the source is gone')
    ok(['convert', image, '--to', 'criu', '-o', dump])
    ok(['verify', dump])
    const before = lines().length
    const restored = spawn(path.join(packageRoot, 'imago'), ['restore', dump], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let said = ''
    restored.stderr!.on('data', piece => {
      said += piece
    })
    let ended = false
    const end = new Promise(resolve =>
      restored.once('exit', code => {
        ended = true
        resolve(code)
      }),
    )
    onTestFinished(() => {
      try {
        process.kill(Number(pid), 'SIGKILL')
      } catch {
        // It has ended.
      }
    })
    await until(() => lines().length > before + 3 || ended, 'the program counts on')
    expect(said).toBe('')
    fs.writeFileSync(path.join(folder, 'stop'), '')
    expect(await end).toBe(5)
    expect(lines()).toEqual(lines().map((_, i) => String(i)))
  })
})
