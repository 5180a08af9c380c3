/** A large dump is retargeted without copying its pages, and real criu goes on with what came of it. */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { engine } from '../../../src/engines/criu/engine.js'
import { checkProgram, findPrograms } from '../../../src/engines/criu/program.js'
import { retargetImage } from '../../../src/retarget/retarget-image.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { missingCompiler } from './build.js'

const source = `
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <imago.h>
enum { WORDS = 4 << 20 };
int main(void) {
  unsigned long *memory = malloc(WORDS * 8), x = 1, sum = 0, again = 0;
  for (size_t i = 0; i < WORDS; i++) sum += memory[i] = x = x * 6364136223846793005UL + 1;
  puts("ready"); fflush(stdout);
  while (access("go", F_OK) != 0) imago_migrate();
  for (size_t i = 0; i < WORDS; i++) again += memory[i];
  puts(again == sum ? "right" : "wrong");
  return 0;
}
`

test('32 MiB go to aarch64 and back without a copy; criu goes on when the older images are gone', async ({
  skip,
}) => {
  const [criu] = findPrograms()
  skip(missingCompiler() !== undefined, missingCompiler())
  skip(criu === undefined || !checkProgram(criu).works, 'no criu that works here (npm run setup -- criu-4.2)')
  const folder = temporaryFolder()
  const place = (name: string) => path.join(folder, name)
  fs.writeFileSync(place('fill.c'), source)
  expect(imago(['cc', '-O2', 'fill.c', '-o', 'fill'], { cwd: folder }).stderr).toBe('')
  const out = fs.openSync(place('out'), 'w')
  const child = spawn(place('fill_x86-64'), { cwd: folder, detached: true, stdio: ['ignore', out, out] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const output = () => fs.readFileSync(place('out'), 'utf8')
  while (!output().includes('ready')) await new Promise(go => setTimeout(go, 20))

  await engine.checkpoint(child.pid!, { output: place('dump'), stop: true })
  const pages = fs.statSync(place('dump/pages-1.img'))
  expect(pages.size).toBeGreaterThan(32 << 20)
  for (const [from, to, isa] of [
    ['dump', 'there', 'aarch64'],
    ['there', 'back', 'x86-64'],
  ] as const) {
    await retargetImage({ source: place(from), target: place(to), to: isa })
    expect(fs.statSync(place(`${to}/pages-1.img`)).size).toBeLessThan(4 << 20)
    fs.rmSync(place(from), { recursive: true })
  }
  const restored = await engine.restore(place('back'), { detach: false })
  fs.writeFileSync(place('go'), '')
  expect(await restored.wait()).toBe(0)
  expect(output()).toBe('ready\nright\n')
})
