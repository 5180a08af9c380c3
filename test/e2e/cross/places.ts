/**
 * The two places between which a program travels: this host with its own criu, and the arm64 machine with the one in it.
 * Both have the same folder with the binaries and what the program writes, so that paths in an image hold on either side.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { type Answer, quote } from '../../../src/engines/arm64-machine/agent.js'
import { Arm64Machine } from '../../../src/engines/arm64-machine/machine.js'
import { tar } from '../../../src/engines/arm64-machine/tar.js'
import { RestoredChild } from '../../../src/engines/criu/child.js'
import { engine } from '../../../src/engines/criu/engine.js'
import { ElfFile } from '../../../src/lib/elf.js'
import { PeerError } from '../../../src/lib/errors.js'
import type { IsaName } from '../../../src/model/process.js'
import { runtimeSymbols } from '../../../src/toolchain/program.js'

export interface Place {
  readonly isa: IsaName
  /** Starts `FOLDER/NAME_ISA WORDS…` with its output in FOLDER/out. */
  start(folder: string, name: string, words: readonly string[]): Promise<number>
  /** Freezes it at a migration point into FOLDER/image and ends it. What it wrote is in FOLDER of this host then. */
  freeze(pid: number, folder: string, name: string): Promise<void>
  /** Takes over what the program wrote, and wakes it up from FOLDER/image, which goes. */
  wake(pid: number, folder: string, name: string): Promise<void>
  running(pid: number): Promise<boolean>
  /** Waits for its end, but not for ever. What it wrote is in FOLDER of this host then. */
  finish(pid: number, folder: string, name: string): Promise<void>
}

/** How long a program may take from its last move to its end, ms: on a busy host minutes. */
const PATIENCE = 240_000

/** Ends one that a failed test has left behind; the id may be another's by now. */
function end(pid: number, program: string): void {
  try {
    if (fs.readlinkSync(`/proc/${pid}/exe`) === program) process.kill(pid, 'SIGKILL')
  } catch {} // it has ended, as it should
}

export class Here implements Place {
  readonly isa = 'x86-64'
  readonly #children = new Map<number, ChildProcess>()

  async start(folder: string, name: string, words: readonly string[]): Promise<number> {
    const out = fs.openSync(path.join(folder, 'out'), 'a')
    const child = spawn(path.join(folder, `${name}_x86-64`), words, {
      cwd: folder,
      detached: true,
      stdio: ['ignore', out, out],
    })
    fs.closeSync(out)
    this.#children.set(child.pid!, child)
    onTestFinished(() => void child.kill('SIGKILL'))
    return child.pid!
  }

  async freeze(pid: number, folder: string): Promise<void> {
    await engine.checkpoint(pid, { output: path.join(folder, 'image'), stop: true })
    // A program that came back is a child of this process, which nobody else waits for.
    for (let i = 0; fs.existsSync(`/proc/${pid}`); i++) {
      if (i === 10_000) throw new Error(`process ${pid} was frozen and ended, and is there still`)
      if (!this.#children.delete(pid)) new RestoredChild(pid).tryWait()
      await sleep(5)
    }
  }

  async wake(pid: number, folder: string, name: string): Promise<void> {
    const image = path.join(folder, 'image')
    const restored = await engine.restore(image, { detach: true })
    fs.rmSync(image, { recursive: true })
    onTestFinished(() => end(restored.pid, path.join(folder, `${name}_x86-64`)))
    if (restored.pid !== pid) throw new PeerError('another pid', { found: restored.pid, expected: pid })
  }

  async running(pid: number): Promise<boolean> {
    try {
      return !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))
    } catch {
      return false
    }
  }

  async finish(pid: number): Promise<void> {
    for (const limit = performance.now() + PATIENCE; await this.running(pid); await sleep(20))
      if (performance.now() > limit) throw new Error(`process ${pid} has not ended on this host`)
  }
}

/**
 * Process id that nobody has on this host, as some after it for threads, and that nobody gets soon: ids are given in turn,
 * and its turn has just been.
 */
function freeIdHere(): number {
  const kernel = (name: string) => Number(fs.readFileSync(`/proc/sys/kernel/${name}`, 'utf8'))
  const [last, most] = [kernel('ns_last_pid'), kernel('pid_max')]
  for (let back = 500; ; back += THREADS) {
    const first = last - back > 1000 ? last - back : most - back
    if (!Array.from({ length: THREADS }, (_, i) => first + i).some(id => fs.existsSync(`/proc/${id}`)))
      return first
  }
}
const THREADS = 16

/** A command costs a tenth of a second there: all that happens to a program on one occasion is one, and its folder goes with it. */
export class InMachine implements Place {
  readonly isa = 'aarch64'
  readonly #machine: Arm64Machine

  private constructor(machine: Arm64Machine) {
    this.#machine = machine
  }

  static async boot(): Promise<InMachine> {
    return new InMachine(await Arm64Machine.boot())
  }

  stop(): Promise<void> {
    return this.#machine.stop()
  }

  async start(folder: string, name: string, words: readonly string[]): Promise<number> {
    const command = [`${folder}/${name}_aarch64`, ...words].map(quote).join(' ')
    const pid = await this.#machine.must(
      `${arrive(folder)}
      echo ${freeIdHere() - 1} > /proc/sys/kernel/ns_last_pid
      setsid ${command} < /dev/null > out 2>&1 &
      echo $!`,
      { input: packed(folder, name) },
    )
    return Number(pid.trim())
  }

  /**
   * As src/engines/migration-point.ts does on a live process of its own host: when it has a handler for SIGUSR2 it is asked to park,
   * and has parked when all its threads are in futex(2), number 98, on the word that asks them.
   */
  async freeze(pid: number, folder: string, name: string): Promise<void> {
    const request = addressOf(runtimeSymbols.request, `${folder}/${name}_aarch64`)
    const frozen = await this.#machine.run(
      `cd ${quote(folder)}
      until grep -q '^SigCgt:.*[89a-f]..$' /proc/${pid}/status; do [ -d /proc/${pid} ] || exit 1; sleep 0.01; done
      touch /tmp/imago-park-${pid}
      kill -12 ${pid}
      while grep -qv '^98 ${request} ' /proc/${pid}/task/*/syscall; do sleep 0.01; done
      mkdir image
      criu dump -t ${pid} -D image -o /dump.log --shell-job >&2 || ${failsBy('/dump.log')}
      ${DEPART}`,
      { timeout: 60_000 },
    )
    unpack(frozen, folder, name)
  }

  async wake(_pid: number, folder: string, name: string): Promise<void> {
    await this.#machine.must(
      `${arrive(folder)}
      setsid criu restore -D image -o /restore.log --shell-job -d < /dev/null > /dev/null 2>&1 || ${failsBy('/restore.log')}
      rm -rf image`,
      { input: packed(folder, name), timeout: 60_000 },
    )
  }

  async running(pid: number): Promise<boolean> {
    return (await this.#machine.run(isRunning(pid))).code === 0
  }

  async finish(pid: number, folder: string, name: string): Promise<void> {
    const ended = await this.#machine.run(
      `cd ${quote(folder)}
      while ${isRunning(pid)}; do sleep 0.1; done
      ${DEPART}`,
      { timeout: PATIENCE },
    )
    unpack(ended, folder, name)
  }
}

const isRunning = (pid: number) => `grep -q '^State:.[^Z]' /proc/${pid}/status`

/** The command fails, with the errors in criu's log. */
const failsBy = (log: string) => `{ grep -i error ${log} | tail -5 >&2; exit 1; }`

/** The program's folder, with what came with the command, becomes the machine's, and the current one. */
const arrive = (folder: string) => `mkdir -p ${quote(folder)} && cd ${quote(folder)} && tar -xpf - || exit 1`

/** What is in the current folder becomes the answer, and goes. */
const DEPART = 'tar -cf - . && rm -rf ./*'

/** All that the program needs on the other side, as a tar. */
function packed(folder: string, name: string): Buffer {
  const elsewhere = [`--exclude=${name}_x86-64`, `--exclude=${name}.imago.json`]
  return tar(['-C', folder, ...elsewhere, '-cf', '-', '.'])
}

/** What a program left in the machine becomes its folder here; only its binaries stay. */
function unpack(answer: Answer, folder: string, name: string): void {
  if (answer.code !== 0)
    throw new PeerError('the program did not leave the machine', { found: answer.stderr })
  for (const file of fs.readdirSync(folder))
    if (!file.startsWith(name)) fs.rmSync(path.join(folder, file), { recursive: true })
  tar(['-C', folder, '--no-same-owner', `--exclude=${name}_aarch64`, '-xpf', '-'], answer.stdout)
}

function addressOf(symbol: string, program: string): string {
  const elf = ElfFile.open(program)
  try {
    return `0x${elf.symbols.named(symbol)!.address.toString(16)}`
  } finally {
    elf.close()
  }
}
