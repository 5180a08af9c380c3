/**
 * Asking a program to freeze itself, and waiting for its image.
 *
 *   imago                                                  the program (native/preload)
 *   /tmp/imago-request-PID, /tmp/imago-reply-… are made
 *   sigqueue(signal, "imago") ───────────────────────────► reads the request, freezes, goes on
 *   reads the reply as it grows   ◄─────────────────────── "writer PID", "progress BYTES ABOUT", "done PAUSE PATH" | "error …" | "loss …", "refused"
 *   verifies the image; with --stop ends the program, which stood still until then
 */
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { verify } from '../../formats/core/verify.js'
import { HostError, ImagoError, InterruptedError, LossError, UnreadableError } from '../../lib/errors.js'
import { compressFile } from '../../lib/zstd.js'
import type { CheckpointOptions, CheckpointResult } from '../engine.js'
import { liveProcess } from '../live-process.js'
import { queueSignal } from './libc.js'
import { type Target, target } from './target.js'

/** "imago", the value that tells the library to look for a request (native/preload/checkpoint.c). */
const REQUEST_VALUE = 0x6f67616d69n
/** How long a program may take to begin, ms. Its threads stop within 10 s or it refuses. */
const ANSWER_LIMIT = 30_000

/** Share of the whole that writing takes, for the bar; reading it again to verify it takes the rest. */
const WRITTEN = 0.7

interface Answer {
  readonly path: string
  /** Nanoseconds. */
  readonly pause: number
}

export async function checkpoint(pid: number, options: CheckpointOptions): Promise<CheckpointResult> {
  const started = performance.now()
  const program = target(pid)
  const request = new Request(program, options)
  let interrupted = false
  const onInterrupt = () => {
    interrupted = true
  }
  process.once('SIGINT', onInterrupt)
  try {
    request.send()
    const answer = await request.answer(() => interrupted, options.onProgress)
    options.onProgress?.(WRITTEN, 'verifying')
    const problems = await verify(program.root + answer.path)
    if (problems.length > 0)
      throw new UnreadableError(`the image is not what was written: ${problems[0]}`, { file: answer.path })
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
    request.close()
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

class Request {
  readonly #program: Target
  readonly #file: string
  readonly #reply: string
  /** The same as the program sees it. */
  readonly #innerReply: string

  constructor(program: Target, options: CheckpointOptions) {
    this.#program = program
    this.#innerReply = `/tmp/imago-reply-${program.innerPid}-${process.pid}`
    this.#reply = program.root + this.#innerReply
    this.#file = `${program.root}/tmp/imago-request-${program.innerPid}`
    const output = options.output === undefined ? undefined : path.resolve(options.output)
    if (output?.includes('\n')) throw new HostError('the name of an image cannot hold a newline')
    const lines = [
      `reply ${this.#innerReply}`,
      output === undefined ? undefined : `output ${options.compress ? besides(output) : output}`,
      options.stop ? 'hold' : undefined,
      options.force ? 'force' : undefined,
      options.blocking ? 'blocking' : undefined,
      options.includeFiles ? 'files' : undefined,
    ]
    this.#make(this.#reply, '')
    this.#make(this.#file, `${lines.filter(line => line !== undefined).join('\n')}\n`)
  }

  /** A fresh file that belongs to the program's user, so that nobody else's is ever followed. */
  #make(file: string, content: string): void {
    fs.rmSync(file, { force: true })
    const fd = fs.openSync(file, 'wx', 0o600)
    try {
      fs.writeSync(fd, content)
      if (process.getuid?.() === 0) fs.fchownSync(fd, this.#program.uid, this.#program.gid)
    } finally {
      fs.closeSync(fd)
    }
  }

  send(): void {
    const { pid, signal } = this.#program
    const errno = queueSignal(pid, signal, REQUEST_VALUE)
    if (errno !== 0)
      throw new HostError(`cannot send signal ${signal} to process ${pid}: errno ${errno}`, {
        hint: 'run imago as the user of the program, or as root',
      })
  }

  /** The program's words, until they tell the outcome. */
  async answer(interrupted: () => boolean, onProgress: CheckpointOptions['onProgress']): Promise<Answer> {
    const begun = performance.now()
    const losses: string[] = []
    let seen = 0
    let writer: number | undefined
    for (let rounds = 0; ; rounds++) {
      const lines = this.#lines()
      for (; seen < lines.length; seen++) {
        const [, word, rest] = /^(\S+) ?(.*)$/.exec(lines[seen]!) ?? []
        if (word === 'writer') writer = Number(rest)
        else if (word === 'progress') {
          const [written, about] = rest!.split(' ').map(Number) as [number, number]
          const fraction = Math.min(1, written / Math.max(1, about))
          onProgress?.(fraction * WRITTEN, `writing, ${Math.round(written / 2 ** 20)} MiB`)
        } else if (word === 'loss') losses.push(rest!)
        else if (word === 'error') throw new ImagoError(`no checkpoint: ${rest}`)
        else if (word === 'refused') throw refusal(losses)
        else if (word === 'done') {
          const [, pause, file] = /^(\d+) (.*)$/.exec(rest!)!
          return { pause: Number(pause), path: file! }
        }
      }
      if (interrupted()) throw new InterruptedError('interrupted; the program goes on')
      const alive = (pid: number) => !['Z', 'X', undefined].includes(liveProcess(pid)?.state)
      if (rounds % 50 === 49) {
        const gone = writer === undefined ? !alive(this.#program.pid) : !this.#writerLives(writer)
        if (gone && this.#lines().length === seen)
          throw new ImagoError(
            `no checkpoint: the ${writer === undefined ? 'program' : 'writer of the image'} has ended`,
          )
      }
      if (writer === undefined && performance.now() - begun > ANSWER_LIMIT)
        throw new HostError(`process ${this.#program.pid} does not answer signal ${this.#program.signal}`, {
          hint: 'all its threads may block it: imago run --signal 42 -- PROGRAM… takes another one',
        })
      await sleep(rounds < 200 ? 1 : 10)
    }
  }

  #lines(): string[] {
    try {
      return fs.readFileSync(this.#reply, 'utf8').split('\n').slice(0, -1)
    } catch {
      throw new ImagoError('no checkpoint: the program has ended') // and its view of the files with it
    }
  }

  /** The writer's pid is as the program sees it; in another pid namespace only its name can be looked for. */
  #writerLives(pid: number): boolean {
    if (this.#program.innerPid !== this.#program.pid) return true
    const found = liveProcess(pid)
    return found !== undefined && found.state !== 'Z' && found.name === 'imago-writer'
  }

  close(): void {
    for (const file of [this.#file, this.#reply]) fs.rmSync(file, { force: true })
  }
}

function refusal(losses: readonly string[]): LossError {
  return new LossError(
    `the program has what an image cannot keep yet:\n${losses.map(loss => `  ${loss}`).join('\n')}`,
    {
      hint: '--force makes an image without it',
    },
  )
}

function besides(output: string): string {
  return path.join(path.dirname(output), `.${path.basename(output)}.plain`)
}
