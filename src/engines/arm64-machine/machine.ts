/**
 * A small aarch64 Linux machine under QEMU (TCG), to run, dump and restore aarch64 programs on any host: the part
 * `arm64-machine` of the cache (Debian's cloud kernel; an initial RAM disk with busybox, criu and the agent).
 *
 *   host                                     guest (10.0.2.15; the host is 10.0.2.2)
 *   Arm64Machine ── 127.0.0.1:a free port ──► agent on port 2222, one command a connection
 *                   forwards[guest port]  ──► whatever listens there
 *
 * The agent obeys only who knows the secret of this boot, which is given to the guest through QEMU's firmware
 * configuration from a file that only this user can read. The machine dies with the thread that started it, unless it
 * stays in a folder: then whoever can read that folder finds it there.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { HostError, ImagoError, PeerError } from '../../lib/errors.js'
import { requirePart } from '../../lib/parts.js'
import { programsNamed } from '../../lib/search-path.js'
import { type Answer, ask, quote } from './agent.js'
import { guestTar, tar, unpacks } from './tar.js'

export interface MachineOptions {
  /** Guest ports that become ports of this host's loopback; see `forwardedPort`. */
  readonly forward?: readonly number[]
  /** MiB of memory; 512 ordinarily. */
  readonly memory?: number
  readonly processors?: number
  /** QEMU's name of the processor. `max` has every extension and is three times slower. */
  readonly processor?: string
  /** How long the boot may take, in milliseconds; it takes 7 s on a quiet machine. */
  readonly timeout?: number
  /** A folder that does not exist yet: the machine outlives this process, and `Arm64Machine.find` finds it there. */
  readonly stayIn?: string
}

/** `machine.json` of a machine that stays. */
interface Standing {
  readonly pid: number
  readonly token: string
  /** Guest port → port of this host. */
  readonly ports: Readonly<Record<string, number>>
}

export interface RunOptions {
  /** Bytes for the command's standard input; nothing is an empty input. */
  readonly input?: Uint8Array
  /** Milliseconds after which the command is killed in the guest. */
  readonly timeout?: number
}

const PROGRAM = 'qemu-system-aarch64'
const AGENT_PORT = 2222

export class Arm64Machine {
  /** Process id of QEMU. */
  readonly pid: number
  readonly #folder: string
  readonly #token: string
  /** Guest port → port of this host. */
  readonly #ports: ReadonlyMap<number, number>

  private constructor(pid: number, folder: string, token: string, ports: ReadonlyMap<number, number>) {
    this.pid = pid
    this.#folder = folder
    this.#token = token
    this.#ports = ports
  }

  /** Why no machine can be started here, or undefined. */
  static missing(): string | undefined {
    try {
      requirePart('arm64-machine')
      findProgram()
      return undefined
    } catch (error) {
      const { message, details } = error as ImagoError
      return `${message} (${details.hint})`
    }
  }

  /**
   * Starts a machine and waits until its agent answers.
   * @throws HostError when QEMU or the part is missing, PeerError when the machine does not come up.
   */
  static async boot(options: MachineOptions = {}): Promise<Arm64Machine> {
    // A free port may be taken by another between our look and QEMU's bind: then once more, with others.
    for (let attempt = 1; ; attempt++)
      try {
        return await Arm64Machine.#bootOnce(options)
      } catch (error) {
        if (attempt === 5 || !(error instanceof PeerError) || !/forwarding/.test(error.message)) throw error
      }
  }

  /** The machine that stays in `folder`, or undefined when there is none any more. */
  static find(folder: string): Arm64Machine | undefined {
    const file = path.join(folder, 'machine.json')
    if (!fs.existsSync(file)) return undefined
    const { pid, token, ports } = JSON.parse(fs.readFileSync(file, 'utf8')) as Standing
    // The pid may be another program's by now; no other has this folder among its words.
    if (!isMachine(pid, folder)) return undefined
    return new Arm64Machine(
      pid,
      folder,
      token,
      new Map(Object.entries(ports).map(([guest, host]) => [Number(guest), host])),
    )
  }

  static async #bootOnce(options: MachineOptions): Promise<Arm64Machine> {
    const part = requirePart('arm64-machine')
    const program = findProgram()
    const folder = options.stayIn ?? fs.mkdtempSync(path.join(os.tmpdir(), 'imago-arm64-')) // mode 0700
    if (options.stayIn !== undefined) fs.mkdirSync(folder, { mode: 0o700 })
    const token = randomBytes(16).toString('hex')
    const tokenFile = path.join(folder, 'token')
    fs.writeFileSync(tokenFile, token, { mode: 0o600 })
    const ports = new Map<number, number>()
    for (const guest of [AGENT_PORT, ...(options.forward ?? [])]) ports.set(guest, await freePort())
    const forwards = [...ports].map(([guest, host]) => `hostfwd=tcp:127.0.0.1:${host}-:${guest}`)
    const words = [
      ['-M', 'virt', '-cpu', options.processor ?? 'cortex-a72'],
      ['-smp', String(options.processors ?? 1), '-m', `${options.memory ?? 512}M`],
      ['-nodefaults', '-nographic', '-no-reboot', '-serial', `file:${path.join(folder, 'serial')}`],
      ['-kernel', path.join(part, 'Image'), '-initrd', path.join(part, 'initrd.gz')],
      ['-append', 'console=ttyAMA0 quiet panic=-1'],
      ['-netdev', ['user,id=n0', ...forwards].join(','), '-device', 'virtio-net-pci,netdev=n0,romfile='],
      ['-fw_cfg', `name=opt/imago.token,file=${tokenFile}`],
    ].flat()
    const log = fs.openSync(path.join(folder, 'qemu'), 'w')
    const stays = options.stayIn !== undefined
    const command = [...(stays ? [] : ['setpriv', '--pdeathsig', 'KILL']), program, ...words]
    const child = spawn(command[0]!, command.slice(1), { stdio: ['ignore', log, log], detached: stays })
    fs.closeSync(log)
    child.unref()
    const machine = new Arm64Machine(child.pid ?? 0, folder, token, ports)
    try {
      await machine.#waitForAgent(child, options.timeout ?? 180_000)
      if (stays) {
        const standing: Standing = { pid: machine.pid, token, ports: Object.fromEntries(ports) }
        fs.writeFileSync(path.join(folder, 'machine.json'), JSON.stringify(standing), { mode: 0o600 })
      }
      return machine
    } catch (error) {
      await machine.stop()
      throw error
    }
  }

  async #waitForAgent(qemu: ChildProcess, timeout: number): Promise<void> {
    let failure: Error | undefined
    qemu.once('error', error => {
      failure = error
    })
    // QEMU accepts connections before the guest listens, so that only an answer proves anything.
    for (const deadline = Date.now() + timeout; Date.now() < deadline; await sleep(200)) {
      if (failure !== undefined || qemu.exitCode !== null || qemu.signalCode !== null)
        throw new PeerError(`QEMU ended at once: ${failure?.message ?? this.#lastLine('qemu')}`)
      const answer = await this.#ask('true', { timeout: 10_000 }).catch(() => undefined)
      if (answer?.code === 0) return
    }
    throw new PeerError(`the aarch64 machine did not come up in ${timeout / 1000} s`, {
      found: `its last words: ${this.#lastLine('serial') || 'none'}`,
      hint: 'this host may be too busy: try again',
    })
  }

  #lastLine(name: string): string {
    const file = path.join(this.#folder, name)
    return fs.existsSync(file) ? (fs.readFileSync(file, 'utf8').trim().split('\n').at(-1) ?? '') : ''
  }

  #ask(command: string, options: RunOptions): Promise<Answer> {
    return ask(
      this.forwardedPort(AGENT_PORT),
      this.#token,
      command,
      options.timeout ?? 120_000,
      options.input,
    )
  }

  /** The port of 127.0.0.1 that leads to `guest`, one of `options.forward`. */
  forwardedPort(guest: number): number {
    const port = this.#ports.get(guest)
    if (port === undefined) throw new ImagoError(`port ${guest} of the machine is not forwarded`)
    return port
  }

  /**
   * Runs a command line of the guest's shell, as root, and waits for it. What it leaves in the background must
   * have its output redirected, or the answer waits for that too.
   * @throws PeerError when the agent does not answer in time.
   */
  run(command: string, options: RunOptions = {}): Promise<Answer> {
    return this.#ask(command, options)
  }

  /** Like `run`; returns standard output as text. @throws PeerError when the exit code is not 0. */
  async must(command: string, options: RunOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(command, options)
    if (code !== 0)
      throw new PeerError(`'${command}' failed in the aarch64 machine with exit code ${code}`, {
        found: stderr.trim() || stdout.toString('utf8').trim() || 'no words',
      })
    return stdout.toString('utf8')
  }

  /** Copies a file of this host to a file of the guest, with its mode and its holes; folders on the way are made. */
  async putFile(source: string, target: string): Promise<void> {
    const { dir, base } = path.parse(path.resolve(source))
    const arrival = `${target}.sent`
    await this.must(
      `mkdir -p ${quote(arrival)} && ${unpacks(arrival)} && mv -f ${quote(`${arrival}/${base}`)} ${quote(target)} && rmdir ${quote(arrival)}`,
      { input: tar(['-C', dir, '-Shcf', '-', `./${base}`]) },
    )
  }

  /** Copies a folder of this host, with everything in it, to a folder of the guest. */
  async putFolder(source: string, target: string): Promise<void> {
    await this.must(`mkdir -p ${quote(target)} && ${unpacks(target)}`, {
      input: tar(['-C', source, '-Scf', '-', '.']),
    })
  }

  /** Copies a file of the guest to a file of this host, with its mode and its holes. */
  async getFile(source: string, target: string): Promise<void> {
    const { dir, base } = path.posix.parse(source)
    const arrival = fs.mkdtempSync(`${path.resolve(target)}.`)
    try {
      await this.#get(`-C ${quote(dir || '.')} -Shcf - ${quote(`./${base}`)}`, source, arrival)
      fs.renameSync(path.join(arrival, base), target)
    } finally {
      fs.rmSync(arrival, { recursive: true })
    }
  }

  /** Copies a folder of the guest, with everything in it, to a folder of this host. */
  async getFolder(source: string, target: string): Promise<void> {
    await this.#get(`-C ${quote(source)} -Scf - .`, source, target)
  }

  async #get(words: string, source: string, target: string): Promise<void> {
    const { code, stdout, stderr } = await this.run(`${guestTar} ${words}`)
    // 1: a file changed while it was read.
    if (code > 1)
      throw new PeerError(`cannot read ${source} in the aarch64 machine`, { found: stderr.trim() })
    fs.mkdirSync(target, { recursive: true })
    tar(['-C', target, '--no-same-owner', '-xf', '-'], stdout)
  }

  /** Ends the machine at once and removes its temporary files. May be called twice. */
  async stop(): Promise<void> {
    while (isMachine(this.pid, this.#folder)) {
      try {
        process.kill(this.pid, 'SIGKILL')
      } catch {
        // It went between two looks.
      }
      await sleep(5)
    }
    fs.rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** True while `pid` is the QEMU whose files are in `folder`; a zombie has no words any more. */
function isMachine(pid: number, folder: string): boolean {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`file=${path.join(folder, 'token')}`)
  } catch {
    return false
  }
}

function findProgram(): string {
  const [program] = programsNamed(PROGRAM)
  if (program === undefined)
    throw new HostError(`${PROGRAM} is not installed`, { hint: 'apt-get install qemu-system-arm' })
  return program
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo
      server.close(() => resolve(port))
    })
  })
}
