/**
 * Which criu to use, and how to run it. Set-up unpacks two into the cache (parts `criu` and `criu-4.2`): the kernel
 * of the host may be too new for the older one, and for the host's own. Unpacked ones bring their libraries and are
 * started through their own dynamic loader:
 *
 *   PART/usr/lib/ARCH-linux-gnu/ld-linux-….so.N --library-path PART/usr/lib/ARCH-linux-gnu PART/usr/sbin/criu …
 */
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { HostError } from '../../lib/errors.js'
import { findPart } from '../../lib/parts.js'
import { programsNamed } from '../../lib/search-path.js'

export interface CriuProgram {
  /** What the user knows it by: a path, or the part of the cache. */
  readonly origin: string
  /** Program and first words. */
  readonly command: readonly string[]
  /** `4.2.1`. */
  readonly version: string
}

const library =
  process.arch === 'arm64'
    ? { folder: 'usr/lib/aarch64-linux-gnu', loader: 'ld-linux-aarch64.so.1' }
    : { folder: 'usr/lib/x86_64-linux-gnu', loader: 'ld-linux-x86-64.so.2' }

/** Every criu there is on this host: $IMAGO_CRIU alone when set, else those of the cache and of the system; newest first. */
export function findPrograms(): CriuProgram[] {
  const own = process.env.IMAGO_CRIU
  const candidates: { origin: string; command: string[] }[] = []
  if (own) candidates.push({ origin: own, command: [own] })
  else {
    for (const name of ['criu-4.2', 'criu']) {
      const part = findPart(name)
      if (part === undefined) continue
      const libraries = path.join(part, library.folder)
      candidates.push({
        origin: `part '${name}' of the cache`,
        command: [
          path.join(libraries, library.loader),
          '--library-path',
          libraries,
          path.join(part, 'usr/sbin/criu'),
        ],
      })
    }
    for (const file of new Set(programsNamed('criu', ['/usr/sbin', '/usr/local/sbin'])))
      candidates.push({ origin: file, command: [file] })
  }
  return candidates
    .map(candidate => ({ ...candidate, version: versionOf(candidate.command) ?? '' }))
    .filter(({ version }) => version !== '')
    .sort((a, b) => b.version.localeCompare(a.version, 'en', { numeric: true }))
}

function versionOf(command: readonly string[]): string | undefined {
  const { stdout } = spawnSync(command[0]!, [...command.slice(1), '--version'], { encoding: 'utf8' })
  return /Version: (\S+)/.exec(stdout ?? '')?.[1]
}

/** `criu check`: whether it works on this kernel with this user's rights, and its words when not. */
export function checkProgram(program: CriuProgram): { works: boolean; words: string } {
  const { status, stdout, stderr } = spawnSync(program.command[0]!, [...program.command.slice(1), 'check'], {
    encoding: 'utf8',
    timeout: 60_000,
  })
  return { works: status === 0, words: `${stderr ?? ''}${stdout ?? ''}` }
}

/** The newest criu there is. @throws HostError when there is none. */
export function requireProgram(): CriuProgram {
  const [newest] = findPrograms()
  if (newest === undefined)
    throw new HostError('criu is not on this host', {
      hint: "npm run setup -- criu-4.2 (or apt-get install criu); 'imago check' tells more",
    })
  return newest
}

/** What criu allows only when told to, and what a user who asks for a checkpoint means. */
export const allowances = ['--shell-job', '--tcp-established', '--file-locks']

export interface CriuRun {
  readonly code: number
  /** Content of its log file, and what it said on the terminal. */
  readonly log: string
}

/**
 * Runs criu on the images in `directory`; its log and statistics go to `work`. `onTick` is called several times a
 * second while it runs.
 * @param options.terminal give it this terminal, if there is one: a restored program may live on it.
 */
export async function runCriu(
  program: CriuProgram,
  words: readonly string[],
  options: {
    directory: string
    work: string
    terminal?: boolean
    /** For its action scripts. */
    environment?: Readonly<Record<string, string>>
    onTick?: () => void
  },
): Promise<CriuRun> {
  const [command, ...first] = program.command
  const terminal = options.terminal === true && process.stdin.isTTY && process.stdout.isTTY
  const places = ['-D', options.directory, '-W', options.work, '-o', 'log', '-v2']
  const child = spawn(command!, [...first, ...words, ...places], {
    stdio: terminal ? ['inherit', 'inherit', 'pipe'] : ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...options.environment },
    // Ctrl-C must not end criu while it holds the program frozen.
    detached: !terminal,
  })
  const spoken: Buffer[] = []
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', piece => spoken.push(piece))
  const ticks = setInterval(() => options.onTick?.(), 100)
  try {
    // 'exit', not 'close': what is restored in the background may keep our pipes open.
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', reject)
      child.once('exit', status => resolve(status ?? 1))
    })
    const file = path.join(options.work, 'log')
    const log = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : ''
    return { code, log: `${Buffer.concat(spoken).toString('utf8')}${log}` }
  } finally {
    clearInterval(ticks)
    child.stdout?.destroy()
    child.stderr?.destroy()
  }
}

/** A fresh folder for criu's log and statistics; the caller removes it. */
export function workFolder(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'imago-criu-'))
}
