/**
 * A request to a program to freeze itself, and its reply, in two files: one that it reads and removes, one that it writes and `imago` reads as it grows.
 *
 *   /tmp/imago-request-PID-IMAGO    a line an option (native/preload/options.c)
 *   /tmp/imago-reply-PID-IMAGO      "writer PID", "progress BYTES ABOUT", "done PAUSE PATH" | "error …" | "loss …", "refused"
 *
 * The reply is locked while the imago that asked lives: one without a lock was left behind by one that was killed, and is swept, its request, too.
 * A program that is held still until its image is verified (--stop) goes on as soon as nobody holds the lock.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { errnoWords, HostError, ImagoError, InterruptedError, LossError } from '../../lib/errors.js'
import { lockFile } from '../../lib/libc.js'
import { type CheckpointOptions, PATIENCE } from '../engine.js'
import { allProcesses, liveProcess, zombieStatus } from '../live-process.js'
import { exitStatus, holdProcess, queueSignal, queueSignalToFirstThread } from './libc.js'
import { imagePath } from './output.js'
import { firstThreadTakes, type Target } from './target.js'

/** "imago" and our pid: the value that tells the library to look for our request (native/preload/options.c). */
const REQUEST_VALUE = 0x6f67616d69n | (BigInt(process.pid) << 40n)
/** How long without a word before it is looked whether anybody is left to speak, ms. */
const QUIET = 100
/** How often a program is asked again that has not taken the request, ms: a signal that comes while it already waits is lost. */
const ASK_AGAIN = 500
/** How long after its writer a program that it keeps standing may still tell why there is no image, ms: it lets its threads go first. */
const LAST_WORDS = 3_000

/** Age of a reply below which it is left alone, ms. */
const JUST_MADE = 10_000

/** Share of the whole that writing takes, for the bar; reading it again to verify it takes the rest. */
export const WRITTEN = 0.7

export interface Answer {
  readonly path: string
  /** Nanoseconds. */
  readonly pause: number
}

export class Request {
  readonly #program: Target
  readonly #options: CheckpointOptions
  readonly #file: string
  readonly #reply: string
  /** The same as the program sees it. */
  readonly #innerReply: string
  /** Of the reply: held open, and locked, as long as this lives. */
  readonly #lock: number
  readonly #watcher: fs.FSWatcher
  #onNews: () => void = () => {}
  /** The writer, when its pid is the same here; held, so that it is known how it ended. */
  #writer: { readonly pid: number; readonly held: number | undefined } | undefined

  constructor(program: Target, options: CheckpointOptions) {
    this.#program = program
    this.#options = options
    sweep(program.root)
    this.#innerReply = `/tmp/imago-reply-${program.innerPid}-${process.pid}`
    this.#reply = program.root + this.#innerReply
    this.#file = `${program.root}/tmp/imago-request-${program.innerPid}-${process.pid}`
    const output = options.output === undefined ? undefined : imagePath(options.output, program.root)
    const lines = [
      `reply ${this.#innerReply}`,
      output === undefined ? undefined : `output ${options.compress ? besides(output) : output}`,
      options.stop ? 'hold' : undefined,
      options.force ? 'force' : undefined,
      options.blocking ? 'blocking' : undefined,
      options.includeFiles ? 'files' : undefined,
    ]
    this.#lock = this.#make(this.#reply, '')
    lockFile(this.#lock)
    fs.closeSync(this.#make(this.#file, `${lines.filter(line => line !== undefined).join('\n')}\n`))
    this.#watcher = fs.watch(this.#reply, () => this.#onNews())
  }

  /** A fresh file that belongs to the program's user, so that nobody else's is ever followed. */
  #make(file: string, content: string): number {
    fs.rmSync(file, { force: true })
    const fd = fs.openSync(file, 'wx', 0o600)
    fs.writeSync(fd, content)
    if (process.getuid?.() === 0) fs.fchownSync(fd, this.#program.uid, this.#program.gid)
    return fd
  }

  /** To the first thread, if that takes it: a signal for the process may wake another one for nothing, whose wait ends with EINTR then. */
  #signal(): number {
    const { pid, signal } = this.#program
    return (firstThreadTakes(pid, signal) ? queueSignalToFirstThread : queueSignal)(
      pid,
      signal,
      REQUEST_VALUE,
    )
  }

  send(): void {
    const { pid, signal } = this.#program
    const errno = this.#signal()
    if (errno !== 0)
      throw new HostError(`cannot send signal ${signal} to process ${pid}: errno ${errno}`, {
        hint: 'run imago as the user of the program, or as root',
      })
  }

  /** The program's words, until they tell the outcome. */
  async answer(interrupted: () => boolean): Promise<Answer> {
    const { onProgress, patience = PATIENCE } = this.#options
    const begun = performance.now()
    let heard = begun
    let asked = begun
    const losses: string[] = []
    let seen = 0
    let writer: number | undefined
    for (;;) {
      const lines = this.#lines()
      for (; seen < lines.length; seen++) {
        const [, word, rest] = /^(\S+) ?(.*)$/.exec(lines[seen]!) ?? []
        if (word === 'writer') {
          writer = Number(rest)
          this.#holdWriter(writer)
        } else if (word === 'progress') {
          const [written, about] = rest!.split(' ').map(Number) as [number, number]
          const fraction = Math.min(1, written / Math.max(1, about))
          onProgress?.(fraction * WRITTEN, `writing, ${Math.round(written / 2 ** 20)} MiB`)
        } else if (word === 'loss') losses.push(rest!)
        else if (word === 'error')
          throw new ImagoError(`no checkpoint: ${inWords(rest!)}${this.#howWriterEnded()}`)
        else if (word === 'refused') throw refusal(losses)
        else if (word === 'done') {
          const [, pause, file] = /^(\d+) (.*)$/.exec(rest!)!
          return { pause: Number(pause), path: file! }
        }
      }
      if (interrupted()) throw new InterruptedError('interrupted; the program goes on')
      if (await this.#news()) heard = performance.now()
      else {
        if (performance.now() - asked > ASK_AGAIN && fs.existsSync(this.#file)) {
          asked = performance.now()
          this.#signal()
        }
        const gone = this.#gone(writer, performance.now() - heard)
        if (gone !== undefined && this.#lines().length === seen) {
          this.#removeUnfinished(writer)
          throw new ImagoError(`no checkpoint: ${gone} has ended${this.#howWriterEnded()}`)
        }
      }
      if (writer === undefined && performance.now() - begun > patience) throw this.#noAnswer(patience)
    }
  }

  /** Who it is that is not there any more to speak, after `silence` ms; undefined: somebody may still speak. */
  #gone(writer: number | undefined, silence: number): string | undefined {
    if (writer !== undefined && this.#writerLives(writer)) return undefined
    if (['Z', 'X', undefined].includes(liveProcess(this.#program.pid)?.state)) return 'the program'
    const { stop, blocking } = this.#options
    const patience = stop || blocking ? LAST_WORDS : 0 // otherwise the program went on before its writer was heard of
    return writer !== undefined && silence >= patience ? 'the writer of the image' : undefined
  }

  #holdWriter(writer: number): void {
    const { pid, innerPid } = this.#program
    if (pid === innerPid) this.#writer = { pid: writer, held: holdProcess(writer) }
  }

  /** The signal that ended the writer, in parentheses, where the kernel tells: also of one that its parent has not waited for. */
  #howWriterEnded(): string {
    if (this.#writer === undefined) return ''
    const { pid, held } = this.#writer
    const status = (held === undefined ? undefined : exitStatus(held)) ?? zombieStatus(pid) ?? 0
    const signal = Object.entries(os.constants.signals).find(([, number]) => number === (status & 0x7f))?.[0]
    return signal === undefined ? '' : ` (${signal})`
  }

  /** What a writer that has ended would have renamed (native/preload/output.c). Without an output of ours its name is the program's to sweep. */
  #removeUnfinished(writer: number | undefined): void {
    const { output, compress } = this.#options
    if (writer === undefined || output === undefined) return
    const image = compress ? besides(path.resolve(output)) : path.resolve(output)
    const name = `.${path.basename(image)}.${writer}.tmp`
    fs.rmSync(path.join(this.#program.root, path.dirname(image), name), { force: true })
  }

  #noAnswer(patience: number): HostError {
    const { pid, signal, atMigrationPoints } = this.#program
    return atMigrationPoints
      ? new HostError(
          `process ${pid} did not come to a migration point with all its threads within ${patience / 1000} s; it goes on`,
          {
            hint: 'a thread that waits in a system call is at none (docs/cc.md); --patience 5m waits longer',
          },
        )
      : new HostError(`process ${pid} does not answer signal ${signal}`, {
          hint: 'all its threads may block it: imago run --signal 42 -- PROGRAM… takes another one',
        })
  }

  /** Waits until the reply grows, but not for long; false when it did not. */
  async #news(): Promise<boolean> {
    return await new Promise(resolve => {
      const timer = setTimeout(() => resolve(false), QUIET)
      this.#onNews = () => {
        clearTimeout(timer)
        resolve(true)
      }
    })
  }

  #lines(): string[] {
    try {
      return fs.readFileSync(this.#reply, 'utf8').split('\n').slice(0, -1)
    } catch {
      throw new ImagoError('no checkpoint: the program has ended') // and its view of the files with it
    }
  }

  /** The writer's pid is as the program sees it. It renames itself when the image is there, just before it says so. */
  #writerLives(innerPid: number): boolean {
    const { pid, innerPid: own } = this.#program
    return (own === pid ? [innerPid] : allProcesses())
      .map(liveProcess)
      .some(
        found =>
          found !== undefined &&
          found.innerPid === innerPid &&
          /^imago-(writer|done)$/.test(found.name) &&
          !'ZX'.includes(found.state),
      )
  }

  close(): void {
    this.#watcher.close()
    fs.closeSync(this.#lock)
    if (this.#writer?.held !== undefined) fs.closeSync(this.#writer.held)
    for (const file of [this.#file, this.#reply]) fs.rmSync(file, { force: true })
  }
}

/** Removes what imagos that were killed left: nobody holds the lock of the reply. One that was just made may not have it yet. */
function sweep(root: string): void {
  const folder = path.join(root, '/tmp')
  const names = fs.readdirSync(folder)
  for (const name of names.filter(each => /^imago-reply-\d+-\d+$/.test(each))) {
    const file = path.join(folder, name)
    let fd: number | undefined
    try {
      fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK)
      if (isOld(fs.fstatSync(fd)) && lockFile(fd)) fs.rmSync(file)
    } catch {
      // Another user's, or gone.
    } finally {
      if (fd !== undefined) fs.closeSync(fd)
    }
  }
  for (const name of names.filter(each => /^imago-request-\d+-\d+$/.test(each))) {
    const file = path.join(folder, name)
    try {
      const awaited = fs.existsSync(file.replace('imago-request-', 'imago-reply-'))
      if (!awaited && isOld(fs.lstatSync(file))) fs.rmSync(file)
    } catch {
      // Another user's, or gone.
    }
  }
}

const isOld = (file: fs.Stats) => file.mtimeMs < Date.now() - JUST_MADE

/** The reason with the words of errno(3) for "error NUMBER", at its end. */
const inWords = (reason: string) =>
  reason.replace(/error (\d+)$/, (number, errno) => errnoWords(Number(errno)) ?? number)

function refusal(losses: readonly string[]): LossError {
  return new LossError(
    `the program has what an image cannot keep yet:\n${losses.map(loss => `  ${loss}`).join('\n')}`,
    {
      hint: '--force makes an image without it',
    },
  )
}

/** Where the plain image goes of which a compressed one is made. */
function besides(output: string): string {
  return path.join(path.dirname(output), `.${path.basename(output)}.plain`)
}
