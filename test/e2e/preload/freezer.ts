/** A program under test: started with libckpt.so inside, frozen, killed and restarted any number of times. */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { nativePart } from '../../../src/engines/preload/native-parts.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { execFileSync } from '../../helpers/bounded.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

/** Compiles workloads/keep/NAME.c into `folder`. */
function compileKeep(name: string, folder: string, compiler = 'gcc'): string {
  const target = path.join(folder, name)
  const source = path.join(packageRoot, 'workloads/keep', `${name}.c`)
  execFileSync(compiler, ['-std=gnu11', '-Wall', '-Wextra', '-O1', '-pthread', '-o', target, source])
  return target
}

/** workloads/keep/NAME.c at work in a folder of its own, when it says that it is ready. It ends with the test. */
export async function startKeep(name: string, words: readonly string[], compiler = 'gcc'): Promise<Frozen> {
  const folder = temporaryFolder()
  const program = new Frozen(compileKeep(name, folder, compiler), words, folder)
  onTestFinished(() => program.abandon())
  await program.until(() => program.has('ready'), 'readiness')
  return program
}

export class Frozen {
  readonly folder: string
  readonly image: string
  /** What the program wrote to stdout and stderr, in all its lives. */
  readonly log: string
  #child: ChildProcess
  #ended: Promise<number | string>

  constructor(
    file: string,
    words: readonly string[],
    folder: string,
    environment: Record<string, string> = {},
  ) {
    this.folder = folder
    this.image = path.join(folder, 'image')
    this.log = path.join(folder, 'log')
    this.#child = this.#spawn(file, words, {
      LD_PRELOAD: nativePart('libckpt.so'),
      IMAGO_OUTPUT: this.image,
      ...environment,
    })
    this.#ended = this.#endOf(this.#child)
  }

  #spawn(file: string, words: readonly string[], environment: Record<string, string>): ChildProcess {
    const log = fs.openSync(this.log, 'a')
    try {
      return spawn(file, words, {
        cwd: this.folder,
        stdio: ['ignore', log, log],
        env: { ...process.env, ...environment },
      })
    } finally {
      fs.closeSync(log)
    }
  }

  #endOf(child: ChildProcess): Promise<number | string> {
    return new Promise(resolve => child.on('exit', (code, signal) => resolve(code ?? signal!)))
  }

  /** The program's pid: of the one that myrestart stands in for, where there is one. */
  get pid(): number {
    let pid = this.#child.pid!
    for (;;) {
      const below = readText(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean)
      if (below.length !== 1 || readText(`/proc/${pid}/comm`) !== 'myrestart\n') return pid
      pid = Number(below[0])
    }
  }

  has(name: string): boolean {
    return fs.existsSync(path.join(this.folder, name))
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    for (let i = 0; i < 3000; i++) {
      if (condition()) return
      if (this.#child.exitCode !== null || this.#child.signalCode !== null)
        throw new Error(`ended before ${what}: ${this.output()}`)
      await sleep(10)
    }
    throw new Error(`no ${what}: ${this.output()}`)
  }

  /** Asks by signal, as `kill -12` does, and waits for the image. */
  async freeze(): Promise<void> {
    fs.rmSync(this.image, { force: true })
    process.kill(this.pid, 'SIGUSR2')
    await this.until(() => this.has('image'), 'image')
  }

  async kill(): Promise<void> {
    process.kill(this.pid, 'SIGKILL')
    await this.#ended
  }

  async restart(...options: string[]): Promise<void> {
    this.#child = this.#spawn(nativePart('myrestart'), [...options, this.image], {})
    this.#ended = this.#endOf(this.#child)
    await this.until(
      () =>
        readText(`/proc/${this.pid}/comm`) !== 'myrestart\n' &&
        catches(readText(`/proc/${this.pid}/status`), os.constants.signals.SIGUSR2),
      'restored program',
    )
  }

  /** Exit code, or the name of the signal. */
  async end(): Promise<number | string> {
    return await this.#ended
  }

  /** Lets it look whether all is as it was, and end. */
  async finish(): Promise<{ code: number | string; output: string }> {
    fs.writeFileSync(path.join(this.folder, 'go'), '')
    return { code: await this.end(), output: this.output() }
  }

  output(): string {
    return readText(this.log)
  }

  /** For a test that failed half-way. */
  abandon(): void {
    try {
      process.kill(this.pid, 'SIGKILL')
      this.#child.kill('SIGKILL')
    } catch {
      // It is gone already.
    }
  }
}

/** What restored programs do, and myrestart does not. */
function catches(status: string, signal: number): boolean {
  const caught = /^SigCgt:\s*(\w+)/m.exec(status)?.[1] ?? '0'
  return (BigInt(`0x${caught}`) >> BigInt(signal - 1)) % 2n === 1n
}

function readText(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
