import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { packageRoot } from '../../src/lib/parts.js'
import { spawnSync } from './bounded.js'

export interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs `./imago words…` as a user would; the build must be fresh (npm test makes it so). */
export function imago(
  words: readonly string[],
  options: { cwd?: string; input?: string; env?: Record<string, string>; timeout?: number } = {},
): Outcome {
  const result = spawnSync(path.join(packageRoot, 'imago'), words, {
    encoding: 'utf8',
    cwd: options.cwd,
    input: options.input,
    env: { ...process.env, NO_COLOR: '1', ...options.env },
    timeout: options.timeout ?? 120_000,
    maxBuffer: 1 << 28,
  })
  return { code: result.status, stdout: result.stdout, stderr: result.stderr }
}

/** Runs imago, which must succeed. */
export function must(...words: string[]): string {
  const { code, stdout, stderr } = imago(words)
  if (code !== 0)
    throw new Error(`imago ${words.join(' ')}: exit code ${code}\n${stdout.slice(-2000)}\n${stderr}`)
  return stdout
}

/** Waits until a program started by `imago run` (which becomes it) can be frozen: libckpt.so is inside. */
export async function canBeFrozen(pid: number): Promise<void> {
  for (let i = 0; i < 2000; i++) {
    if (fs.readFileSync(`/proc/${pid}/maps`, 'utf8').includes('libckpt.so')) return
    await sleep(5)
  }
  throw new Error(`process ${pid} never loaded libckpt.so`)
}
