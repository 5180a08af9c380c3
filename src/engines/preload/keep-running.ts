/** A program that imago stays with, to take checkpoints at intervals or to compress them. */
import { spawn } from 'node:child_process'
import os from 'node:os'
import type { CheckpointResult } from '../engine.js'
import { checkpoint } from './checkpoint.js'
import { environmentFor, type RunOptions } from './run.js'

export interface KeepOptions extends RunOptions {
  /** Milliseconds between checkpoints. */
  readonly intervalMs: number
  readonly compress: boolean
  /** Descriptors above the standard streams that the program gets, under their numbers. */
  readonly inherited: readonly number[]
  onCheckpoint(result: CheckpointResult): void
  /** A checkpoint failed; the program and the intervals go on. */
  onFailure(error: Error): void
}

/** Returns the program's exit code, or 128 + the signal that ended it. */
export async function keepRunning(
  file: string,
  words: readonly string[],
  options: KeepOptions,
): Promise<number> {
  const child = spawn(file, words.slice(1), {
    argv0: words[0],
    stdio: inheritedFiles(options.inherited),
    env: environmentFor(options),
  })
  let running = true
  let count = 0
  const take = async () => {
    try {
      const values: Record<string, string> = { '%n': String(++count), '%p': String(child.pid), '%%': '%' }
      const output = options.output?.replace(/%[np%]/g, word => values[word]!)
      const result = await checkpoint(child.pid!, { output, stop: false, compress: options.compress })
      options.onCheckpoint(result)
    } catch (error) {
      if (running) options.onFailure(error as Error)
    }
    if (running) timer = setTimeout(take, options.intervalMs)
  }
  let timer = setTimeout(take, options.intervalMs)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const)
    process.on(signal, () => signal !== 'SIGINT' && child.kill(signal)) // Ctrl-C reaches both
  return new Promise((resolve, reject) => {
    const stop = () => {
      running = false
      clearTimeout(timer)
    }
    child.on('error', error => {
      stop()
      reject(error)
    })
    child.on('exit', (code, signal) => {
      stop()
      resolve(code ?? 128 + os.constants.signals[signal!])
    })
  })
}

function inheritedFiles(files: readonly number[]): ('inherit' | 'ignore' | number)[] {
  const count = Math.max(2, ...files) + 1
  return Array.from({ length: count }, (_, fd) => (fd < 3 ? 'inherit' : files.includes(fd) ? fd : 'ignore'))
}
