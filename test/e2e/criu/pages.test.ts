import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { engine } from '../../../src/engines/criu/engine.js'
import { checkProgram, findPrograms } from '../../../src/engines/criu/program.js'
import { execFileSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const [program] = findPrograms()
const works = program !== undefined && checkProgram(program).works

const source = `
#include <unistd.h>
static char zeros[40 * 4096];
static long numbers[512] = { 1 };
int main(void) { for (;;) { zeros[numbers[0]++ % sizeof zeros] = 1; usleep(1000); } }
`

test('the pages of a real dump are named by the sections of its binary, and its vDSO pointers by symbol', async ({
  skip,
}) => {
  skip(!works, 'no criu that works on this kernel (npm run setup -- criu-4.2)')
  const folder = temporaryFolder()
  const binary = path.join(folder, 'prog')
  execFileSync('gcc', ['-static', '-O1', '-x', 'c', '-', '-o', binary], { input: source })
  const child = spawn(binary, { cwd: '/', stdio: 'ignore', detached: true })
  onTestFinished(() => void child.kill('SIGKILL'))
  await sleep(300)
  const image = path.join(folder, 'image')
  await engine.checkpoint(child.pid!, { output: image, stop: true })
  const result = imago(['pages', image, '--json'])
  expect(result.code, result.stderr).toBe(0)
  const [process] = JSON.parse(result.stdout).processes
  const contents = process.pages.map((run: { contents: string[] }) => run.contents.join(' ')).join('\n')
  for (const name of ['.text', '.data', '.bss', 'heap', 'stack', 'vdso']) expect(contents).toContain(name)
  const pages = process.pages.reduce((sum: number, run: { count: number }) => sum + run.count, 0)
  expect(pages * 4096).toBe(fs.statSync(path.join(image, 'pages-1.img')).size)
  const clock = process.vdsoPointers.find((each: { function?: string }) =>
    /clock_gettime/.test(each.function ?? ''),
  )
  expect(clock.symbol.name).toMatch(/clock_gettime/)

  const text = imago(['pages', image, '--binary', binary])
  expect(text.stdout).toMatch(/numbers$/m)
  expect(text.stderr).toContain("of this image's vDSO")
})
