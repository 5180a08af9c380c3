/** The objects that are linked: the program's, from its IR by transform and llc, and the runtime's. Both are slow and kept in the cache. */
import fs from 'node:fs'
import path from 'node:path'
import type { IsaName } from '../model/process.js'
import { cached, hashOf, nativeFolder, toolchainHash } from './cache.js'
import { makeCheckpointer } from './checkpointer.js'
import { makeObject } from './code.js'
import type { PollPolicy } from './polls.js'
import { isaNames, perIsa } from './program.js'
import type { ShadowFrames } from './shadow-frames.js'
import { inParallel, type Tools, targets } from './tools.js'
import { transform } from './transform.js'

export const runtimeFolder = path.join(nativeFolder, 'runtime')

/** The part of the runtime that is compiled with the program; the rest is compiled for each ISA. */
export const WITH_THE_PROGRAM = ['points.c', 'waiting.c', 'complex.c']

/** What the transformation of a program gives. */
export interface ProgramObjects {
  /** Holds ISA/program.o. */
  readonly folder: string
  /** Hash of all that the objects are made of; both binaries carry it. */
  readonly identity: string
  readonly frames: ShadowFrames
  readonly polls: number
  /** Whether main reaches a migration point. */
  readonly canMigrate: boolean
}

/**
 * The program's objects for both ISAs, checked; from the cache where the same was made before.
 * @param linked IR of the whole program. @param migrateAt what `policy` was made of.
 * @throws LossError, ToolError
 */
export async function makeProgramObjects(
  tools: Tools,
  linked: string,
  policy: PollPolicy,
  migrateAt: readonly string[],
): Promise<ProgramObjects> {
  const identity = hashOf(toolchainHash(), linked, migrateAt.join())
  const folder = await cached(`program-${identity}`, async folder => {
    const { ir, polls, sites, functions, canMigrate } = await transform(tools, linked, policy)
    const bytes = Buffer.from(identity, 'hex')
    const value = [...bytes].map(each => `\\${each.toString(16).padStart(2, '0').toUpperCase()}`).join('')
    const whole = `${ir}\n@__imago_identity_value = constant [32 x i8] c"${value}"\n`
    await Promise.all(
      isaNames.map(async isa => {
        fs.mkdirSync(path.join(folder, isa))
        await makeObject(tools, isa, whole, sites, path.join(folder, isa, 'program.o'))
      }),
    )
    if (process.env.IMAGO_KEEP_IR) fs.writeFileSync(path.join(folder, 'program.ll'), whole)
    fs.writeFileSync(
      path.join(folder, 'frames.json'),
      JSON.stringify({ identity, frames: { sites, functions }, polls, canMigrate }),
    )
  })
  const kept = JSON.parse(fs.readFileSync(path.join(folder, 'frames.json'), 'utf8'))
  return { ...(kept as Omit<ProgramObjects, 'folder'>), folder }
}

/** The paths of the runtime's objects for each ISA. @throws ToolError */
export async function makeRuntimeObjects(tools: Tools): Promise<Record<IsaName, string[]>> {
  const names = fs
    .readdirSync(runtimeFolder)
    .filter(name => name.endsWith('.c') && !WITH_THE_PROGRAM.includes(name))
    .sort()
  const folder = await cached(`runtime-${hashOf(toolchainHash())}`, async into => {
    for (const isa of isaNames) fs.mkdirSync(path.join(into, isa))
    const jobs = isaNames.flatMap(isa => names.map(name => ({ isa, name })))
    await inParallel(jobs, async ({ isa, name }) => {
      await tools.run('clang', [
        ...['-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-ffunction-sections', '-fdata-sections'],
        ...['-fno-pic', '-fno-stack-protector', '-ftls-model=local-exec'],
        ...(isa === 'aarch64' ? ['-mno-outline-atomics'] : []),
        `--target=${targets[isa].triple}`,
        ...tools.headerOptions(isa, []),
        ...['-c', path.join(runtimeFolder, name), '-o', path.join(into, isa, name.replace(/c$/, 'o'))],
      ])
    })
    await inParallel(isaNames, isa => makeCheckpointer(tools, isa, path.join(into, isa)))
  })
  return perIsa(isa =>
    [...names, 'checkpointer.c'].map(name => path.join(folder, isa, name.replace(/c$/, 'o'))),
  )
}
