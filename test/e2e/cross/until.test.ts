/** imago run --until leaves a program where a debugger would: at an address, or behind the first call of a function. */

import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { packageRoot } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const source = `
#include <stdio.h>
__attribute__((noinline)) int step(int n) { __asm__ volatile(""); return n + 1; }
int main(void) {
  int n = 40;
  setbuf(stdout, NULL);
  printf("before\\n");
  n = step(n);
  printf("after the first\\n");
  n = step(n);
  printf("%d\\n", n);
  return 0;
}
`

test('stopped right behind the first call, with its PID on stdout, and SIGCONT lets it finish', async ({
  skip,
}) => {
  const folder = temporaryFolder()
  const program = path.join(folder, 'program')
  fs.writeFileSync(`${program}.c`, source)
  spawnSync('gcc', ['-O1', '-static', '-no-pie', `${program}.c`, '-o', program])
  const out = path.join(folder, 'out')
  // The stopped program keeps its stdout open, so it must not be a pipe that somebody reads to its end.
  const errors = path.join(folder, 'errors')
  const fd = fs.openSync(out, 'w')
  const errorsFd = fs.openSync(errors, 'w')
  spawnSync(path.join(packageRoot, 'imago'), ['run', '--until', 'step', program], {
    stdio: ['ignore', fd, errorsFd],
  })
  fs.closeSync(fd)
  fs.closeSync(errorsFd)
  const said = fs.readFileSync(errors, 'utf8')
  skip(/ptrace must be allowed/.test(said), 'ptrace is not allowed here')
  expect(said).toBe('')
  const lines = fs.readFileSync(out, 'utf8').trimEnd().split('\n')
  expect(lines.slice(0, -1)).toEqual(['before'])
  const pid = Number(lines.at(-1))
  expect(fs.readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(/^State:\s+T/m)
  process.kill(pid, 'SIGCONT')
  for (let i = 0; i < 200 && !fs.readFileSync(out, 'utf8').endsWith('\n42\n'); i++)
    await new Promise(resolve => setTimeout(resolve, 20))
  expect(fs.readFileSync(out, 'utf8').trimEnd().split('\n').slice(-2)).toEqual(['after the first', '42'])
})

test('a name the program does not have is refused with what to do', () => {
  const folder = temporaryFolder()
  const program = path.join(folder, 'program')
  fs.writeFileSync(`${program}.c`, source)
  spawnSync('gcc', ['-O1', '-static', '-no-pie', `${program}.c`, '-o', program])
  const result = spawnSync(path.join(packageRoot, 'imago'), ['run', '--until', 'nothing', program], {
    encoding: 'utf8',
  })
  expect(result.status).toBe(2)
  expect(result.stderr).toContain('no symbol nothing')
})
