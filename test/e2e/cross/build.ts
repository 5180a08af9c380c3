/** Workloads compiled for both ISAs, once a source and a compiler. */
import { copyFileSync } from 'node:fs'
import path from 'node:path'
import { expect } from 'vitest'
import { findPart } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { sharedFolder, temporaryFolder } from '../../helpers/temporary-folder.js'
import type { Workload } from './workloads.js'

export function missingCompiler(): string | undefined {
  for (const part of ['clang19', 'musl'])
    if (findPart(part) === undefined) return `part ${part} is not in the cache: npm run setup -- ${part}`
  return undefined
}

const built = new Map<string, string>()

/** Puts NAME_x86-64, NAME_aarch64 and NAME.imago.json into `folder`. */
export function build(workload: Workload, folder: string): void {
  let place = built.get(workload.name)
  if (place === undefined) {
    place = sharedFolder()
    const result = imago(['cc', '-O2', workload.source, '-o', path.join(place, workload.name), '-lm'])
    if (result.code !== 0) throw new Error(`imago cc ${workload.name}: ${result.stderr}`)
    built.set(workload.name, place)
  }
  for (const suffix of ['_x86-64', '_aarch64', '.imago.json'])
    copyFileSync(path.join(place, workload.name + suffix), path.join(folder, workload.name + suffix))
}

/** What it prints when it does not move. */
export function athome(workload: Workload): string {
  const folder = temporaryFolder()
  build(workload, folder)
  const words = workload.travelling.map(word => (word === '{folder}' ? folder : word))
  const program = path.join(folder, `${workload.name}_x86-64`)
  const { stdout } = spawnSync(program, words, { encoding: 'utf8', maxBuffer: 1 << 28 })
  expect(stdout.trimEnd().split('\n').at(-1)).toBe(workload.verdict)
  return stdout
}
