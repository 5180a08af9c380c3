/** Threads that ended before the move and are joined after it: only the program's pthread_t still leads to their records. */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { missingCompiler } from './build.js'

const source = `
#include <imago.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static _Thread_local long mine = 5;
static void *work(void *argument) { mine += (long)argument; return (void *)(mine * 100); }
int main(void) {
  pthread_t threads[3];
  for (long i = 0; i < 3; i++)
    if (pthread_create(&threads[i], NULL, work, (void *)i) != 0) return 1;
  sleep(1);
  puts("all have ended");
  fflush(stdout);
  while (access("go", F_OK) != 0) imago_migrate();
  for (int i = 0; i < 3; i++) {
    void *result = NULL;
    if (pthread_join(threads[i], &result) != 0) return 2;
    printf("%ld\\n", (long)result);
  }
  return 0;
}
`

test('a thread that ended on one ISA is joined on the other, and its result is there', async ({ skip }) => {
  const reason = missingCompiler()
  skip(reason !== undefined, reason)
  const folder = temporaryFolder()
  const file = (name: string) => path.join(folder, name)
  const must = (...words: string[]) => expect(imago(words), words.join(' ')).toMatchObject({ code: 0 })
  fs.writeFileSync(file('late.c'), source)
  must('cc', '-O2', file('late.c'), '-o', file('late'))
  const out = fs.openSync(file('out'), 'a')
  const child = spawn(file('late_x86-64'), { cwd: folder, stdio: ['ignore', out, 'ignore'] })
  fs.closeSync(out)
  while (!fs.readFileSync(file('out'), 'utf8').includes('ended')) await sleep(20)
  must('checkpoint', String(child.pid), '-o', file('a'), '--stop')
  must('retarget', file('a'), '--to', 'aarch64', '-o', file('b'))
  must('retarget', file('b'), '--to', 'x86-64', '-o', file('c'))
  fs.writeFileSync(file('go'), '')
  const restored = imago(['restore', file('b'), '--pid', 'new'])
  skip(restored.code === 5, restored.stderr)
  expect(fs.readFileSync(file('out'), 'utf8')).toBe('all have ended\n500\n600\n700\n')
  must('restore', file('c'), '--pid', 'new', '--files', 'truncate')
  expect(fs.readFileSync(file('out'), 'utf8')).toBe('all have ended\n500\n600\n700\n')
})
