/**
 * The two places between which a program travels: this host with its own criu, and the arm64 machine with the one in it.
 * Both have the same folder with the binaries and what the program writes, so that paths in an image hold on either side.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { Arm64Machine, quote } from '../../../src/engines/arm64-machine/machine.js'
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
  /** Freezes it at a migration point into `image` (a folder of this host) and ends it. What it wrote comes along. */
  freeze(pid: number, folder: string, name: string, image: string): Promise<void>
  /** Takes over what the program wrote and wakes it up. */
  wake(pid: number, folder: string, name: string, image: string): Promise<void>
  running(pid: number): Promise<boolean>
  /** What the program has written to FOLDER/out, brought here when it ended elsewhere. */
  fetch(folder: string, name: string): Promise<void>
}

/** Files of the program in its folder: all but binaries and the description. */
function written(folder: string, name: string): string[] {
  return fs.readdirSync(folder).filter(file => !file.startsWith(name))
}

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

  async freeze(pid: number, _folder: string, _name: string, image: string): Promise<void> {
    await engine.checkpoint(pid, { output: image, stop: true })
    // A program that came back is a child of this process, which nobody else waits for.
    for (let i = 0; fs.existsSync(`/proc/${pid}`); i++) {
      if (i === 10_000) throw new Error(`process ${pid} was frozen and ended, and is there still`)
      if (!this.#children.delete(pid)) new RestoredChild(pid).tryWait()
      await sleep(5)
    }
  }

  async wake(pid: number, folder: string, name: string, image: string): Promise<void> {
    const restored = await engine.restore(image, { detach: true })
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

  async fetch(): Promise<void> {}
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

export class InMachine implements Place {
  readonly isa = 'aarch64'
  readonly #machine: Arm64Machine

  private constructor(machine: Arm64Machine) {
    this.#machine = machine
  }

  static async boot(): Promise<InMachine> {
    return new InMachine(await Arm64Machine.boot())
  }

  must(command: string) {
    return this.#machine.must(command)
  }

  stop(): Promise<void> {
    return this.#machine.stop()
  }

  async #prepare(folder: string, name: string): Promise<void> {
    const mode = (file: string) => fs.statSync(file).mode & 0o777
    await this.#machine.must(
      `rm -rf ${quote(folder)}; mkdir -p ${quote(folder)}; chmod ${mode(folder).toString(8)} ${quote(folder)}`,
    )
    const binary = `${folder}/${name}_aarch64`
    await this.#machine.putFile(binary, fs.readFileSync(binary), mode(binary))
    for (const file of written(folder, name))
      await this.#machine.putFile(
        `${folder}/${file}`,
        fs.readFileSync(path.join(folder, file)),
        mode(path.join(folder, file)),
      )
  }

  async start(folder: string, name: string, words: readonly string[]): Promise<number> {
    await this.#prepare(folder, name)
    const command = [`${folder}/${name}_aarch64`, ...words].map(quote).join(' ')
    const pid = await this.#machine.must(
      `cd ${quote(folder)}; echo ${freeIdHere() - 1} > /proc/sys/kernel/ns_last_pid;` +
        ` setsid ${command} </dev/null >out 2>&1 & echo $!`,
    )
    return Number(pid.trim())
  }

  /** As src/engines/migration-point.ts does on a live process of its own host. */
  async #park(pid: number, binary: string): Promise<void> {
    const elf = ElfFile.open(binary)
    const addresses = [runtimeSymbols.request, runtimeSymbols.parkedCount, runtimeSymbols.threadCount].map(
      name => elf.symbols.named(name)!.address,
    )
    elf.close()
    const word = (address: bigint) =>
      `dd if=/proc/${pid}/mem bs=8 skip=${address / 8n} count=1 2>/dev/null | od -An -tu8`
    await this.#machine.must(
      `mkdir -p /tmp; touch /tmp/imago-park-${pid}; kill -12 ${pid}; for i in $(seq 3000); do [ -d /proc/${pid} ] || exit 1; r=$(${word(addresses[0]!)}); p=$(${word(addresses[1]!)}); t=$(${word(addresses[2]!)});` +
        ` [ $r -ne 0 ] && [ $p -ge $t ] && [ $(ls /proc/${pid}/task | wc -l) -le $t ] && exit 0; sleep 0.01; done; exit 1`,
      { timeout: 60_000 },
    )
  }

  async freeze(pid: number, folder: string, name: string, image: string): Promise<void> {
    await this.#park(pid, `${folder}/${name}_aarch64`)
    await this.#machine.must(
      `rm -rf /image; mkdir /image; criu dump -t ${pid} -D /image -o /dump.log --shell-job`,
      { timeout: 60_000 },
    )
    await this.#machine.getFolder('/image', image)
    await this.fetch(folder, name)
  }

  async wake(pid: number, folder: string, name: string, image: string): Promise<void> {
    await this.#prepare(folder, name)
    await this.#machine.must('rm -rf /image; mkdir /image')
    await this.#machine.putFolder(image, '/image')
    const { code } = await this.#machine.run(
      'setsid criu restore -D /image -o /restore.log -v4 --shell-job -d </dev/null >/dev/null 2>&1',
      { timeout: 60_000 },
    )
    if (code !== 0)
      throw new Error(
        `criu in the machine could not restore ${pid}: ${await this.#machine.must('grep -i error /restore.log | tail -5')}`,
      )
  }

  async running(pid: number): Promise<boolean> {
    return (await this.#machine.run(`grep -q '^State:.[^Z]' /proc/${pid}/status`)).code === 0
  }

  async fetch(folder: string, name: string): Promise<void> {
    const names = (await this.#machine.must(`ls ${quote(folder)}`)).trim().split('\n')
    for (const file of names.filter(each => !each.startsWith(name)))
      fs.writeFileSync(path.join(folder, file), await this.#machine.getFile(`${folder}/${file}`))
  }
}
