/** Programs for CRIU to dump, and dumps of them, by the criu of the cache. */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { type CriuProgram, checkProgram, findPrograms } from '../../src/engines/criu/program.js'
import { spawnSync } from './bounded.js'
import { temporaryFolder } from './temporary-folder.js'

const everything = path.join(import.meta.dirname, '../e2e/criu/everything.py')

/** criu 4.1 or 4.2 of the cache, or why it cannot be used here. */
export function criuOf(version: '4.1' | '4.2'): CriuProgram | string {
  const program = findPrograms().find(each => each.version.startsWith(version))
  if (program === undefined) return `criu ${version} is not in the cache (npm run setup -- test)`
  const { works, words } = checkProgram(program)
  return works ? program : `criu ${version} does not work here: ${words.trim().split('\n').at(-1)}`
}

/** Runs `everything.py` until it is ready; it ends with the test, and all that it started. */
export async function startEverything(
  what: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ pid: number; folder: string }> {
  const folder = temporaryFolder()
  const child = spawn('/usr/bin/python3', [everything, folder, ...what], {
    stdio: ['ignore', 'ignore', 'ignore'],
    detached: true,
    cwd: folder,
    env: { ...process.env, ...env },
  })
  const pid = child.pid!
  onTestFinished(() => endSession(pid))
  for (let tries = 0; !fs.existsSync(path.join(folder, 'ready')); tries++) {
    if (child.exitCode !== null || tries > 600)
      throw new Error(`everything.py ${what.join(' ')} did not get ready`)
    await sleep(100)
  }
  return { pid, folder }
}

/** Kills the processes of a session that `detached` made: they share its process group. */
export function endSession(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // All of them are gone.
  }
}

/** Dumps the tree of `pid` and leaves it running; returns the image directory. */
export function dump(program: CriuProgram, pid: number, words: readonly string[] = []): string {
  const folder = path.join(temporaryFolder(), 'dump')
  fs.mkdirSync(folder)
  const fixed = ['dump', '-t', String(pid), '-D', folder, '-j', '-R', '-v1', '-o', 'dump.log']
  const allowed = ['--file-locks', '--link-remap', '--tcp-established', '--network-lock', 'skip']
  const [command, ...first] = program.command
  const result = spawnSync(command!, [...first, ...fixed, ...allowed, ...words], { encoding: 'utf8' })
  if (result.status !== 0)
    throw new Error(
      `criu dump failed:\n${result.stderr}${fs.readFileSync(path.join(folder, 'dump.log'), 'utf8')}`,
    )
  return folder
}
