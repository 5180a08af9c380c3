/**
 * Boots the machine with an ordinary /dev/kvm (scripts/setup/svm-machine.mjs): an emulated AMD CPU with SVM. It holds
 * this build of imago below /imago, Node with its libraries, and what the job needs.
 */
import { execFile, execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { findPart, packageRoot } from '../../src/lib/parts.js'

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
  /** Milliseconds. */
  readonly timeout: number
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
  words.push('-append', 'console=ttyS0 quiet panic=-1 mitigations=off')
  words.push('-serial', `file:${at('console')}`, '-serial', `file:${at('out.tar.gz')}`)
  let failure: unknown
  let text = ''
  // Known fault, not yet understood: one boot in many stands still once kvm_amd is loaded. It gets a second chance.
  for (let left = 2; left > 0 && !text.includes('job ended with'); left--) {
    failure = await promisify(execFile)(QEMU, words, { timeout: job.timeout, killSignal: 'SIGKILL' }).then(
      () => undefined,
      error => error,
    )
    text = fs.existsSync(at('console')) ? fs.readFileSync(at('console'), 'utf8') : ''
  }
  if (failure !== undefined || !text.includes('job ended with'))
    throw new Error(`the machine did not end by itself; its console:\n${text}`, { cause: failure })
  fs.mkdirSync(at('out'))
  execFileSync('tar', ['-C', at('out'), '--no-same-owner', '-xzf', at('out.tar.gz')])
  return text
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
