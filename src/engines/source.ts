/** The program that a checkpoint is asked of: found by pid or name, with the engine that can freeze it. Source: proc(5). */
import fs from 'node:fs'
import path from 'node:path'
import { UsageError } from '../lib/errors.js'
import type { ProcessEngine } from './engine.js'
import { engines } from './engines.js'

export interface CheckpointSource {
  readonly pid: number
  readonly engine: ProcessEngine
}

/**
 * `word` is a pid, or the name of exactly one running program. Without `engineName` it is the engine that says it can freeze the
 * program, in the order of the table; the first one explains what is wrong where none does.
 * @throws UsageError when there is no such program, several, or no such engine.
 */
export async function checkpointSource(word: string, engineName?: string): Promise<CheckpointSource> {
  const candidates = engines.filter(entry =>
    engineName === undefined ? !entry.byNameOnly : entry.name === engineName,
  )
  if (candidates.length === 0) throw new UsageError(`no engine is called '${engineName}'`)
  const loaded = await Promise.all(candidates.map(entry => entry.load()))
  const engineOf = (pid: number) => loaded.find(engine => engine.canFreeze(pid))
  if (/^\d+$/.test(word)) {
    const pid = Number(word)
    return { pid, engine: engineOf(pid) ?? loaded[0]! }
  }
  const found = processesNamed(word).flatMap(pid => {
    const engine = engineOf(pid)
    return engine === undefined ? [] : [{ pid, engine }]
  })
  if (found.length === 1) return found[0]!
  throw new UsageError(
    found.length === 0
      ? `no running program called '${word}' can be frozen by ${loaded.map(engine => engine.name).join(' or ')}`
      : `several programs are called '${word}'`,
    {
      found: found.length === 0 ? undefined : `pids ${found.map(({ pid }) => pid).join(', ')}`,
      hint: found.length === 0 ? 'start it with imago run -- PROGRAM…, or try --engine criu' : 'give a pid',
    },
  )
}

/** Processes by the name that the kernel has for them, or that of the program they were started as. */
function processesNamed(name: string): number[] {
  return fs
    .readdirSync('/proc')
    .filter(entry => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .map(Number)
    .filter(pid => {
      try {
        const read = (file: string) => fs.readFileSync(`/proc/${pid}/${file}`, 'latin1')
        return read('comm').trim() === name || path.basename(read('cmdline').split('\0')[0]!) === name
      } catch {
        return false // it has ended meanwhile
      }
    })
}
