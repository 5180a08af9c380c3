/** Starting a program with libckpt.so inside: what can carry it, and the environment that brings it in. */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { FileSource } from '../../lib/byte-source.js'
import { EM, PT, readElfHeader, readProgramHeaders } from '../../lib/elf-header.js'
import { HostError, UsageError } from '../../lib/errors.js'
import { isProgram, programsNamed } from '../../lib/search-path.js'
import { nativePart } from './native-parts.js'
import { imagePath } from './output.js'

export interface RunOptions {
  /** Name of the images, with %p and %n. */
  readonly output?: string | undefined
  /** Number of the signal that asks for a checkpoint (default SIGUSR2). */
  readonly signal?: number | undefined
  readonly force?: boolean
  readonly blocking?: boolean
  readonly includeFiles?: boolean
}

/** The program's file, found as a shell finds it. @throws UsageError when there is none. */
export function findProgram(name: string): string {
  const [found] = name.includes('/') ? [path.resolve(name)].filter(isProgram) : programsNamed(name)
  if (found !== undefined) return found
  const isThere = name.includes('/') && fs.existsSync(name)
  throw new UsageError(isThere ? `'${name}' is no program` : `no program '${name}'`, {
    hint: isThere ? 'chmod +x makes a script or binary one' : 'give its path',
  })
}

const SET_ID_BITS = 0o6000

/**
 * Refuses, with the reason, what the dynamic linker would start without libckpt.so.
 * @throws HostError for static, setuid and foreign programs.
 */
export function assertCanCarryLibrary(file: string, depth = 0): void {
  const stat = fs.statSync(file)
  if ((stat.mode & SET_ID_BITS) !== 0 && process.getuid?.() !== stat.uid)
    throw new HostError('a setuid program ignores LD_PRELOAD, so it cannot be checkpointed', {
      file,
      hint: 'run it as its owner, or use the criu engine',
    })
  const source = new FileSource(file)
  try {
    const head = source.read(0, Math.min(source.size, 256))
    if (head[0] === 0x23 && head[1] === 0x21) {
      const line = Buffer.from(head).toString('latin1', 2).split('\n')[0]!.trim()
      const interpreter = line.split(/\s/)[0]!
      if (depth < 4 && fs.existsSync(interpreter)) assertCanCarryLibrary(interpreter, depth + 1)
      return
    }
    const header = readElfHeader(source)
    const machine = os.arch() === 'arm64' ? EM.AARCH64 : EM.X86_64
    if (header.machine !== machine)
      throw new HostError('a program for another processor', { file, hint: 'run it on such a machine' })
    if (!readProgramHeaders(source, header).some(segment => segment.type === PT.INTERP))
      throw new HostError('a statically linked program ignores LD_PRELOAD, so it cannot be checkpointed', {
        file,
        hint: 'link it dynamically, or use the criu engine',
      })
  } finally {
    source.close()
  }
}

/** The environment that makes the dynamic linker load libckpt.so, and tells it the options. */
export function environmentFor(options: RunOptions): Record<string, string | undefined> {
  const library = nativePart('libckpt.so')
  const flags = [
    options.force && 'force',
    options.blocking && 'blocking',
    options.includeFiles && 'files',
  ].filter(Boolean)
  return {
    ...process.env,
    LD_PRELOAD: [library, process.env.LD_PRELOAD].filter(Boolean).join(':'),
    ...(options.output === undefined ? {} : { IMAGO_OUTPUT: imagePath(options.output) }),
    ...(options.signal === undefined ? {} : { IMAGO_SIGNAL: String(options.signal) }),
    ...(flags.length === 0 ? {} : { IMAGO_OPTIONS: flags.join(',') }),
  }
}
