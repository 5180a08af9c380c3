/**
 * The way of a debugger: a program is stopped right behind a call of imago_migrate(), dumped by criu as it stands there, and
 * its image changes its ISA.
 */

import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { requireProgram } from '../../../src/engines/criu/program.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { missingCriu } from '../../helpers/criu-program.js'
import { must } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { until } from '../preload/started.js'
import { missingCompiler } from './build.js'

const source = `
#include <imago.h>
#include <stdio.h>
static long sum(long *list, int length) {
  long total = 0;
  for (int i = 0; i < length; i++) {
    if (i == length / 2) imago_migrate();
    total += list[i];
  }
  return total;
}
int main(void) {
  long list[100];
  for (int i = 0; i < 100; i++) list[i] = i * i;
  printf("%ld\\n", sum(list, 100));
  return 0;
}
`

test('run --until a migration point, criu dump, retarget there and back, criu restore: the right sum', async ({
  skip,
}) => {
  const reason = missingCriu() ?? missingCompiler()
  skip(reason !== undefined, reason)
  const folder = temporaryFolder()
  const file = (name: string) => path.join(folder, name)
  fs.writeFileSync(file('sum.c'), source)
  must('cc', '-O2', '--migrate-at', 'explicit', file('sum.c'), '-o', file('sum'))
  // The stopped program keeps its output open, so it must not be a pipe that somebody reads to its end.
  const out = fs.openSync(file('out'), 'w')
  const errors = fs.openSync(file('errors'), 'w')
  spawnSync(path.join(packageRoot, 'imago'), ['run', '--until', 'imago_migrate', file('sum_x86-64')], {
    stdio: ['ignore', out, errors],
  })
  const said = fs.readFileSync(file('errors'), 'utf8')
  skip(/ptrace must be allowed/.test(said), 'ptrace is not allowed here')
  expect(said).toBe('')
  const pid = Number(fs.readFileSync(file('out'), 'utf8'))
  fs.mkdirSync(file('dump'))
  const [command, ...words] = requireProgram().command
  const dump = spawnSync(command!, [...words, 'dump', '-t', String(pid), '-D', file('dump'), '--shell-job'])
  expect(dump.status).toBe(0)
  must('retarget', file('dump'), '--to', 'aarch64', '-o', file('aarch64'))
  must('retarget', file('aarch64'), '--to', 'x86-64', '-o', file('back'))
  await until(() => !fs.existsSync(`/proc/${pid}`))
  must('restore', file('back'), '--detach')
  // It was dumped stopped, and stands still until it is told to go on.
  expect(fs.readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(/^State:\s+T/m)
  process.kill(pid, 'SIGCONT')
  for (let i = 0; i < 500 && !fs.readFileSync(file('out'), 'utf8').includes('328350'); i++) await sleep(20)
  expect(fs.readFileSync(file('out'), 'utf8')).toBe(`${pid}\n328350\n`)
})
