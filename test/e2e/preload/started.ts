/** Programs compiled on the spot and started in the background by `imago run`. */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished } from 'vitest'
import { packageRoot } from '../../../src/lib/parts.js'
import { execFileSync } from '../../helpers/bounded.js'

/** Compiles C source to `folder`/`name`. */
export function compile(folder: string, name: string, source: string, ...flags: string[]): string {
  const file = path.join(folder, name)
  fs.writeFileSync(`${file}.c`, source)
  execFileSync('gcc', ['-O1', ...flags, '-o', file, `${file}.c`])
  return file
}

/** `imago words…` in the background, its stdout in a file, which the restored program goes on writing to. */
export function start(folder: string, words: readonly string[], output: string): ChildProcess {
  const fd = fs.openSync(path.join(folder, output), 'a')
  const child = spawn(path.join(packageRoot, 'imago'), words, { cwd: folder, stdio: ['ignore', fd, fd] })
  fs.closeSync(fd)
  onTestFinished(() => void child.kill('SIGKILL'))
  return child
}

export const read = (folder: string, name: string) => fs.readFileSync(path.join(folder, name), 'utf8')

export async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 3000 && !condition(); i++) await sleep(10)
  expect(condition()).toBe(true)
}
