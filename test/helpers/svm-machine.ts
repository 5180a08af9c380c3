/**
 * Boots the machine with an ordinary /dev/kvm (scripts/setup/svm-machine.mjs): an emulated AMD CPU with SVM. It holds
 * this build of imago below /imago, Node with its libraries, and what the job needs.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { findPart, packageRoot } from '../../src/lib/parts.js'
import { execFileSync } from './bounded.js'

const QEMU = '/usr/bin/qemu-system-x86_64'

/** Why the machine cannot be booted; undefined: it can. */
export function missingForSvmMachine(): string | undefined {
  if (process.arch !== 'x64') return 'Node of this host is not for x86-64'
  if (!fs.existsSync(QEMU)) return 'qemu-system-x86_64 is not installed (Debian: qemu-system-x86)'
  if (findPart('svm-machine') === undefined)
    return "the kernel is not in the cache: 'npm run setup -- svm-machine'"
  return undefined
}

export interface SvmJob {
  /** For busybox's sh. What it leaves in /out comes back. */
  readonly script: string
  /** Path in the machine → path here. */
  readonly files: Readonly<Record<string, string>>
  /** A fresh folder for what the machine is made of; /out becomes `FOLDER/out`. */
  readonly folder: string
  /** Milliseconds without a word on the console after which the machine counts as dead. */
  readonly silence: number
}

/** Runs a job in the machine. Returns what it wrote to the console. @throws Error with the console when it does not end by itself. */
export async function runInSvmMachine(job: SvmJob): Promise<string> {
  const part = findPart('svm-machine')!
  const at = (name: string) => path.join(job.folder, name)
  const initrd = at('initrd')
  fs.copyFileSync(path.join(part, 'initrd'), initrd)
  fs.appendFileSync(initrd, await archiveOf(job)) // the kernel unpacks one archive after the other
  const words = ['-nodefaults', '-display', 'none', '-no-reboot', '-accel', 'tcg', '-cpu', 'max']
  words.push('-m', '1536', '-kernel', path.join(part, 'vmlinuz'), '-initrd', initrd)
  // On a busy host the interrupts that Linux checks its timer by come too late for it.
  words.push('-append', 'console=ttyS0 quiet panic=-1 mitigations=off no_timer_check')
  words.push('-serial', `file:${at('console')}`, '-serial', `file:${at('out.tar.gz')}`)
  await untilItEnds(spawn(QEMU, words, { stdio: 'ignore' }), at('console'), job.silence)
  const text = fs.existsSync(at('console')) ? fs.readFileSync(at('console'), 'utf8') : ''
  if (!text.includes('job ended with'))
    throw new Error(`the machine did not end by itself; its console:\n${text}`)
  fs.mkdirSync(at('out'))
  execFileSync('tar', ['-C', at('out'), '--no-same-owner', '-xzf', at('out.tar.gz')])
  return text
}

/**
 * Waits for the machine to turn itself off; ends it when its console is silent for too long. No limit on the whole: the
 * same job took 45 s on an idle host and 540 s on one with twenty programs for two CPUs, and never stood still (35 boots).
 */
async function untilItEnds(machine: ChildProcess, console: string, silence: number): Promise<void> {
  let size = -1
  let heardAt = Date.now()
  const watch = setInterval(() => {
    const now = fs.statSync(console, { throwIfNoEntry: false })?.size ?? 0
    if (now !== size) heardAt = Date.now()
    size = now
    if (Date.now() - heardAt > silence) machine.kill('SIGKILL')
  }, 500)
  try {
    await once(machine, 'exit')
  } finally {
    clearInterval(watch)
  }
}

/** imago, Node, the libraries of both, and the files of the job. */
async function archiveOf(job: SvmJob): Promise<Buffer> {
  const disk = path.join(job.folder, 'disk')
  const copy = (from: string, to: string) =>
    fs.cpSync(from, path.join(disk, to), { recursive: true, dereference: true })
  const node = fs.realpathSync(process.execPath)
  copy(node, 'bin/node')
  for (const [library] of execFileSync('ldd', [node], { encoding: 'utf8' }).matchAll(/\/\S+/g))
    copy(library, library)
  for (const name of ['imago', 'package.json', 'dist', 'scripts/setup/parts.json'])
    copy(path.join(packageRoot, name), path.join('imago', name))
  const { dependencies } = JSON.parse(fs.readFileSync(path.join(packageRoot, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
  }
  for (const name of [...Object.keys(dependencies), '@koromix']) // @koromix: the binaries of koffi
    copy(path.join(packageRoot, 'node_modules', name), path.join('imago/node_modules', name))
  for (const [to, from] of Object.entries(job.files)) copy(from, to)
  fs.writeFileSync(path.join(disk, 'job'), job.script)
  const cpio = (await import(path.join(packageRoot, 'scripts/setup/cpio.mjs'))) as {
    cpioOf(folder: string): Buffer
  }
  const archive = cpio.cpioOf(disk)
  fs.rmSync(disk, { recursive: true })
  return archive
}
