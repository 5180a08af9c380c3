/**
 * One run of `criu dump`. With `stop`, criu asks what is to become of the program when all is written and it still stands still
 * (action script `post-dump`): it stays stopped when the image is kept. Else criu takes back what it did to the program, the hold
 * on its connections' packets, too, and lets it go on.
 *
 *   criu ─► script ─► WORK/dumped ─► imago verifies, renames ─► WORK/keep or WORK/undo ─► script's exit code ─► criu
 *
 * When imago has gone, the program goes on.
 */
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CriuDirectory } from '../../formats/criu/directory.js'
import { stats_entry } from '../../formats/criu/schema/inventory.js'
import { PeerError } from '../../lib/errors.js'
import { packageRoot } from '../../lib/parts.js'
import { PAGE_SIZE } from '../../model/memory.js'
import type { CheckpointOptions } from '../engine.js'
import { anonymousPages, hasTcpConnections, processTree } from '../live-process.js'
import { explain } from './failures.js'
import { allowances, type CriuProgram, type CriuRun, runCriu, workFolder } from './program.js'

/** Deleted files up to this size go into the image. */
const GHOST_LIMIT = '1G'

/**
 * How criu holds back the packets of a program's TCP connections. Without any it is told to leave that: a dump would leave two
 * hooks in the kernel, which only its restore on this host removes, and no dump gets any after 1024.
 */
function networkLock(hasConnections: boolean): string[] {
  const hasIptables = ['/usr/sbin', '/sbin', '/usr/bin'].some(folder => fs.existsSync(`${folder}/iptables`))
  return ['--network-lock', hasConnections ? (hasIptables ? 'iptables' : 'nftables') : 'skip']
}

/** Asks in WORK what is to become of the program. */
const askScript = path.join(packageRoot, 'scripts/criu-post-dump')

/** One run of `criu dump`, from its start until its program goes on or is ended. */
export class Dump {
  readonly #program: CriuProgram
  readonly #pid: number
  readonly #options: CheckpointOptions
  readonly #work = workFolder()
  #run: Promise<CriuRun> | undefined
  #isWritten = false

  constructor(program: CriuProgram, pid: number, options: CheckpointOptions) {
    this.#program = program
    this.#pid = pid
    this.#options = options
  }

  /** Dumps the tree. When it returns, all of the image is in `directory`; with `stop` the tree stands still. */
  async into(directory: string): Promise<void> {
    const connected = processTree(this.#pid).some(hasTcpConnections)
    let ended = false
    this.#run = runCriu(this.#program, ['dump', '-t', String(this.#pid), ...this.#words(connected)], {
      directory,
      work: this.#work,
      environment: { IMAGO_WORK: this.#work, IMAGO_PID: String(process.pid) },
      onTick: this.#progress(directory),
    }).finally(() => {
      ended = true
    })
    this.#run.catch(() => {}) // thrown below
    while (!ended && !fs.existsSync(path.join(this.#work, 'dumped'))) await sleep(10)
    this.#isWritten = true
    if (ended) await this.#success()
    if (!connected && fs.readdirSync(directory).some(name => name.startsWith('tcp-stream-')))
      throw new PeerError(`process ${this.#pid} opened a TCP connection just as it was frozen; it goes on`, {
        hint: 'ask for the checkpoint again',
      })
  }

  /** The image is kept, and lies in `target` by now. Returns how long the program stood still, in milliseconds. */
  async keep(target: string): Promise<number | undefined> {
    this.#answer('keep')
    await this.#success()
    const statistics = path.join(this.#work, 'stats-dump')
    if (!fs.existsSync(statistics)) return undefined
    fs.copyFileSync(statistics, path.join(target, 'stats-dump'))
    const { dump } = new CriuDirectory(target).message('stats-dump', stats_entry)
    return dump && (dump.freezing_time + dump.frozen_time) / 1000
  }

  /** The program goes on, unless the image was kept. */
  async undo(): Promise<void> {
    this.#answer('undo')
    await this.#run?.catch(() => {})
  }

  close(): void {
    fs.rmSync(this.#work, { recursive: true, force: true })
  }

  #words(connected: boolean): string[] {
    const words = ['--link-remap', '--ghost-limit', GHOST_LIMIT, ...allowances, ...networkLock(connected)]
    if (!this.#options.stop) return ['--leave-running', ...words]
    return ['--leave-stopped', '--action-script', askScript, ...words]
  }

  #progress(directory: string): () => void {
    const expected = processTree(this.#pid).reduce((sum, each) => sum + anonymousPages(each), 0)
    return () => {
      if (this.#isWritten) return // and perhaps not there any more
      const written = pagesWritten(directory)
      const detail = `${written} of about ${Math.max(expected, written)} pages`
      this.#options.onProgress?.(Math.min(written / Math.max(expected, 1), 1), detail)
    }
  }

  /** Waits for criu's end. @throws ImagoError when it failed: what its log says */
  async #success(): Promise<void> {
    const run = await this.#run
    if (run !== undefined && run.code !== 0) throw explain(`cannot checkpoint process ${this.#pid}`, run.log)
  }

  #answer(word: 'keep' | 'undo'): void {
    fs.writeFileSync(path.join(this.#work, word), '')
  }
}

function pagesWritten(directory: string): number {
  return fs
    .readdirSync(directory)
    .filter(name => /^pages-\d+\.img$/.test(name))
    .reduce((sum, name) => sum + fs.statSync(path.join(directory, name)).size / PAGE_SIZE, 0)
}
