/**
 * Asking a program to freeze itself, and waiting for its image.
 *
 *   imago                                                  the program (native/preload)
 *   /tmp/imago-request-…, /tmp/imago-reply-… are made
 *   sigqueue(signal, "imago") ───────────────────────────► reads the request, freezes, goes on
 *   reads the reply as it grows   ◄─────────────────────── "writer PID", "progress BYTES ABOUT", "done PAUSE PATH" | "error …" | "loss …", "refused"
 *   verifies the image; with --stop ends the program, which stood still until then
 */
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { compressFile } from '../../lib/zstd.js'
import type { CheckpointOptions, CheckpointResult } from '../engine.js'
import { liveProcess } from '../live-process.js'
import { warmPageTables } from './page-tables.js'
import { Request, WRITTEN } from './request.js'
import { check } from './restore.js'
import { target } from './target.js'

/** Asks the checkpointer in the program for an image and verifies that. @throws ImagoError; the program goes on then. */
export async function checkpoint(pid: number, options: CheckpointOptions): Promise<CheckpointResult> {
  const started = performance.now()
  const program = target(pid)
  let interrupted = false
  const onInterrupt = () => {
    interrupted = true
  }
  process.once('SIGINT', onInterrupt) // before anybody can see a request
  let request: Request | undefined
  try {
    request = new Request(program, options)
    warmPageTables(program.pid)
    request.send()
    const answer = await request.answer(() => interrupted)
    options.onProgress?.(WRITTEN, 'verifying')
    await check(program.root + answer.path)
    let result = answer.path
    if (options.compress) result = compress(answer.path, options.output)
    if (options.stop) await end(program.pid)
    return {
      path: result,
      bytes: fs.statSync(program.root + result).blocks * 512,
      pauseMs: answer.pause / 1e6,
      totalMs: performance.now() - started,
    }
  } finally {
    process.off('SIGINT', onInterrupt)
    request?.close()
  }
}

/** Replaces the image by its compressed form, which stands whole before the plain one goes. */
function compress(plain: string, output: string | undefined): string {
  const final = output === undefined ? plain : path.resolve(output)
  compressFile(plain, final)
  if (final !== plain) fs.rmSync(plain)
  return final
}

async function end(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL')
  while (!['Z', 'X', undefined].includes(liveProcess(pid)?.state)) await sleep(1)
}
