/**
 * A small aarch64 Linux machine under QEMU (TCG), to run, dump and restore aarch64 programs on any host: the part
 * `arm64-machine` of the cache (Debian's cloud kernel; an initial RAM disk with busybox, criu and the agent).
 *
 *   host                                     guest (10.0.2.15; the host is 10.0.2.2)
 *   Arm64Machine ── 127.0.0.1:a free port ──► agent on port 2222, one command a connection
 *                   forwards[guest port]  ──► whatever listens there
 *
 * The agent obeys only who knows the secret of this boot, which is given to the guest through QEMU's firmware
 * configuration from a file that only this user can read. The machine dies with the thread that started it.
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
import { type Answer, ask } from './agent.js'

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
  readonly #process: ChildProcess
  readonly #folder: string
  readonly #token: string
  /** Guest port → port of this host. */
  readonly #ports: ReadonlyMap<number, number>

  private constructor(
    process: ChildProcess,
    folder: string,
    token: string,
    ports: ReadonlyMap<number, number>,
  ) {
    this.#process = process
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

  static async #bootOnce(options: MachineOptions): Promise<Arm64Machine> {
    const part = requirePart('arm64-machine')
    const program = findProgram()
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-arm64-')) // mode 0700
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
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...words], {
      stdio: ['ignore', log, log],
    })
    fs.closeSync(log)
    const machine = new Arm64Machine(child, folder, token, ports)
    try {
      await machine.#waitForAgent(options.timeout ?? 180_000)
      return machine
    } catch (error) {
      await machine.stop()
      throw error
    }
  }

  async #waitForAgent(timeout: number): Promise<void> {
    let failure: Error | undefined
    this.#process.once('error', error => {
      failure = error
    })
    // QEMU accepts connections before the guest listens, so that only an answer proves anything.
    for (const deadline = Date.now() + timeout; Date.now() < deadline; await sleep(200)) {
      if (failure !== undefined || this.#process.exitCode !== null || this.#process.signalCode !== null)
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

  /** Writes a file in the guest; folders on the way are made. */
  async putFile(target: string, content: Uint8Array, mode = 0o755): Promise<void> {
    const quoted = quote(target)
    await this.must(
      `mkdir -p "$(dirname ${quoted})" && cat > ${quoted} && chmod ${mode.toString(8)} ${quoted}`,
      { input: content },
    )
  }

  /** Copies a folder of this host, with everything in it, to a folder of the guest. */
  async putFolder(source: string, target: string): Promise<void> {
    for (const name of fs.readdirSync(source, { recursive: true }) as string[]) {
      const stat = fs.statSync(path.join(source, name))
      if (!stat.isFile()) continue
      await this.putFile(
        path.posix.join(target, name),
        fs.readFileSync(path.join(source, name)),
        stat.mode & 0o777,
      )
    }
  }

  /** Content of a file of the guest. */
  async getFile(source: string): Promise<Buffer> {
    const { code, stdout, stderr } = await this.run(`cat ${quote(source)}`)
    if (code !== 0)
      throw new PeerError(`cannot read ${source} in the aarch64 machine`, { found: stderr.trim() })
    return stdout
  }

  /** Copies the regular files below a folder of the guest into a folder of this host. */
  async getFolder(source: string, target: string): Promise<void> {
    const names = (await this.must(`cd ${quote(source)} && find . -type f`)).split('\n').filter(Boolean)
    for (const name of names) {
      const file = path.resolve(target, name)
      if (!file.startsWith(path.resolve(target) + path.sep)) continue
      fs.mkdirSync(path.dirname(file), { recursive: true })
      fs.writeFileSync(file, await this.getFile(path.posix.join(source, name)))
    }
  }

  /** Ends the machine at once and removes its temporary files. May be called twice. */
  async stop(): Promise<void> {
    const child = this.#process
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = new Promise(resolve => child.once('exit', resolve))
      child.kill('SIGKILL')
      await ended
    }
    fs.rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** A word of a shell's command line. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`
}

function findProgram(): string {
  const folder = (process.env.PATH ?? '').split(':').find(place => fs.existsSync(path.join(place, PROGRAM)))
  if (folder === undefined)
    throw new HostError(`${PROGRAM} is not installed`, { hint: 'apt-get install qemu-system-arm' })
  return path.join(folder, PROGRAM)
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
