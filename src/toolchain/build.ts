/**
 * `imago cc`, from words to files:
 *
 *   file.c ──clang──► IR ┐
 *   file.o (IR) ─────────┼─llvm-link─► one module ─transform─► IR with sites ─┬─llc─► program.o ┐ ─lld─► PROG_x86-64
 *   points.c ──clang──► IR ┘                                                  └─llc─► program.o ┘ ─lld─► PROG_aarch64
 *                                                     runtime of each ISA ─────────────────────┘        PROG.imago.json
 *
 * What is slow (transform and llc) is kept in the cache folder under the hash of all that goes into it.
 */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { ImagoError, UnreadableError, UsageError } from '../lib/errors.js'
import { cacheFolder, packageRoot } from '../lib/parts.js'
import type { IsaName } from '../model/process.js'
import { makeCheckpointer } from './checkpointer.js'
import { makeObject } from './code.js'
import { describe } from './describe.js'
import type { Layout } from './layout.js'
import { linkBoth } from './link.js'
import type { CompilerOptions } from './options.js'
import { parsePolicy } from './polls.js'
import { isaNames } from './program.js'
import type { ShadowFrames } from './shadow-frames.js'
import { Tools, targets } from './tools.js'
import { transform } from './transform.js'

const nativeFolder = path.join(packageRoot, 'native')
const runtimeFolder = path.join(nativeFolder, 'runtime')
const overlayFolder = path.join(runtimeFolder, 'include')

/** The part of the runtime that is compiled with the program; the rest is compiled for each ISA. */
const WITH_THE_PROGRAM = ['points.c', 'waiting.c', 'complex.c']

/** After the user's own options, so that these win. */
const FRONT_END = [
  ...['-ffp-contract=off', '-fno-pic', '-fno-stack-protector', '-fno-asynchronous-unwind-tables'],
  ...['-fno-unwind-tables', '-gline-tables-only', '-Xclang', '-disable-O0-optnone', '-D__imago__=1'],
  // Programs that have code for these and other code choose the other, which is for both ISAs.
  ...['-U__MMX__', '-U__SSE__', '-U__SSE_MATH__', '-U__SSE2__', '-U__SSE2_MATH__'],
]

export interface Built {
  readonly files: readonly string[]
  readonly layout?: Layout
  readonly sites?: number
  readonly functions?: number
  readonly polls?: number
  readonly symbols?: number
  /** Warnings of the front end. */
  readonly said: string
}

/** @throws LossError, UsageError, ToolError: nothing has been written then. */
export async function build(options: CompilerOptions): Promise<Built> {
  const tools = new Tools()
  if (options.mode === 'preprocess') return preprocess(tools, options)
  if (options.mode === 'object') return compileObjects(tools, options)
  return link(tools, options)
}

async function frontEnd(
  tools: Tools,
  options: CompilerOptions,
  source: string,
  output: string,
  kind: readonly string[],
): Promise<string> {
  const level = options.frontEnd.some(each => /^-O/.test(each)) ? [] : ['-O2']
  const { stdout, stderr } = await tools.run('clang', [
    ...level,
    ...options.frontEnd,
    ...FRONT_END,
    `--target=${targets['x86-64'].triple}`,
    ...tools.headerOptions('x86-64', [overlayFolder]),
    ...kind,
    source,
    '-o',
    output,
  ])
  if (output === '-') process.stdout.write(stdout)
  return stderr
}

async function preprocess(tools: Tools, options: CompilerOptions): Promise<Built> {
  const kind = options.frontEnd.includes('-fsyntax-only') ? [] : ['-E']
  const said: string[] = []
  for (const source of options.sources)
    said.push(await frontEnd(tools, options, source, options.output ?? '-', kind))
  return { files: options.output ? [options.output] : [], said: said.join('') }
}

async function compileObjects(tools: Tools, options: CompilerOptions): Promise<Built> {
  const jobs = options.sources.map(source => ({
    source,
    output: options.output ?? path.basename(source).replace(/\.[^.]*$/, '.o'),
  }))
  const said = await inParallel(jobs, job =>
    frontEnd(tools, options, job.source, job.output, ['-emit-llvm', '-c']),
  )
  return { files: jobs.map(job => job.output), said: said.join('') }
}

async function link(tools: Tools, options: CompilerOptions): Promise<Built> {
  const policy = parsePolicy(options.migrateAt)
  const output = options.output ?? 'a.out'
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-cc-'))
  try {
    const sources = [...options.sources, ...WITH_THE_PROGRAM.map(name => path.join(runtimeFolder, name))]
    const compiled = sources.map((_, i) => path.join(folder, `${i}.bc`))
    const runtime = makeRuntime(tools)
    runtime.catch(() => {}) // awaited below; a compile error comes first
    const said = await inParallel([...sources.keys()], i =>
      frontEnd(tools, options, sources[i]!, compiled[i]!, [
        ...['-emit-llvm', '-c'],
        // With it clang 19.1.7 made broken IR of complex.c.
        ...(i < options.sources.length ? [] : ['-fno-slp-vectorize']),
      ]),
    )
    const given = [...options.objects, ...options.libraries.map(name => findLibrary(name, options))]
    given.forEach(requireIr)
    const linked = (await tools.run('llvm-link', ['-S', '-o', '-', ...compiled, ...given])).stdout
    const middle = await makeProgramObjects(tools, linked, options, () => policy)
    const runtimeObjects = await runtime
    const outputs = perIsa(isa => path.join(folder, `${path.basename(output)}_${isa}`))
    const { layout, symbols } = await linkBoth(
      tools,
      folder,
      perIsa(isa => [path.join(middle.folder, isa, 'program.o'), ...runtimeObjects[isa]]),
      outputs,
    )
    const json = await describe(tools, path.basename(output), middle.identity, outputs, middle.frames)
    const files = [...isaNames.map(isa => `${output}_${isa}`), `${output}.imago.json`]
    for (const isa of isaNames) replaceFile(outputs[isa], `${output}_${isa}`)
    const description = path.join(folder, 'description')
    fs.writeFileSync(description, json)
    replaceFile(description, `${output}.imago.json`)
    return {
      files,
      layout,
      symbols,
      sites: middle.frames.sites.length,
      functions: middle.frames.functions.length,
      polls: middle.polls,
      said: said.join('') + (middle.canMigrate ? '' : NO_MIGRATION_POINT),
    }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

/** Whole or not at all, and not into a file that runs. */
function replaceFile(from: string, to: string): void {
  const temporary = `${to}.${process.pid}.tmp`
  fs.copyFileSync(from, temporary)
  fs.renameSync(temporary, to)
}

function requireIr(file: string): void {
  let head: Buffer
  try {
    const fd = fs.openSync(file, 'r')
    head = Buffer.alloc(8)
    fs.readSync(fd, head, 0, 8, 0)
    fs.closeSync(fd)
  } catch (error) {
    throw new UnreadableError(`cannot open ${file}`, { file, cause: error })
  }
  if (head.readUInt32BE(0) === 0x7f454c46)
    throw new UnreadableError('an object of another compiler', {
      file,
      hint: 'compile it with imago cc -c: its .o files carry IR for both ISAs',
    })
}

function findLibrary(name: string, options: CompilerOptions): string {
  for (const folder of options.libraryFolders) {
    const file = path.join(folder, `lib${name}.a`)
    if (fs.existsSync(file)) return file
  }
  throw new UsageError(`no lib${name}.a in the folders of -L`)
}

const NO_MIGRATION_POINT =
  'warning: main reaches no migration point, so a running program cannot be moved (see --migrate-at)\n'

interface Middle {
  readonly folder: string
  readonly identity: string
  readonly frames: ShadowFrames
  readonly polls: number
  readonly canMigrate: boolean
}

/** Objects of the program for both ISAs, checked; from the cache where the same was made before. */
async function makeProgramObjects(
  tools: Tools,
  linked: string,
  options: CompilerOptions,
  policy: () => ReturnType<typeof parsePolicy>,
): Promise<Middle> {
  const identity = hashOf(toolchainHash(), linked, options.migrateAt.join())
  return cached(`program-${identity}`, async folder => {
    const { ir, polls, sites, functions, canMigrate } = await transform(tools, linked, policy())
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
  }).then(folder => ({
    ...(JSON.parse(fs.readFileSync(path.join(folder, 'frames.json'), 'utf8')) as Omit<Middle, 'folder'>),
    folder,
  }))
}

/** The runtime's objects for each ISA. */
async function makeRuntime(tools: Tools): Promise<Record<IsaName, string[]>> {
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

function perIsa<T>(value: (isa: IsaName) => T): Record<IsaName, T> {
  return Object.fromEntries(isaNames.map(isa => [isa, value(isa)])) as Record<IsaName, T>
}

/** As many at a time as there are processors. */
async function inParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  let next = 0
  const worker = async () => {
    while (next < items.length) {
      const i = next++
      results[i] = await work(items[i]!)
    }
  }
  await Promise.all(Array.from({ length: Math.min(items.length, os.availableParallelism()) }, worker))
  return results
}

const hashOf = (...parts: readonly string[]) => {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(`${part.length}:`).update(part)
  return hash.digest('hex')
}

let ownHash: string | undefined
/** Of this compiler: its code, and its runtime. */
function toolchainHash(): string {
  if (ownHash === undefined) {
    const hash = createHash('sha256')
    const own = path.dirname(fileURLToPath(import.meta.url))
    for (const folder of [own, nativeFolder])
      for (const name of (fs.readdirSync(folder, { recursive: true }) as string[]).sort())
        if (/\.([jt]s|[ch])$/.test(name)) hash.update(name).update(fs.readFileSync(path.join(folder, name)))
    ownHash = hash.digest('hex')
  }
  return ownHash
}

const KEPT = 48

/** A folder of the cache, filled once under another name and renamed when whole. The oldest go when there are many. */
async function cached(name: string, fill: (folder: string) => Promise<void>): Promise<string> {
  const root = path.join(cacheFolder(), 'cc')
  const folder = path.join(root, name)
  if (fs.existsSync(folder)) {
    const now = new Date()
    fs.utimesSync(folder, now, now)
    return folder
  }
  fs.mkdirSync(root, { recursive: true })
  const temporary = fs.mkdtempSync(path.join(root, '.new-'))
  try {
    await fill(temporary)
    fs.renameSync(temporary, folder)
  } catch (error) {
    fs.rmSync(temporary, { recursive: true, force: true })
    if (error instanceof ImagoError || !fs.existsSync(folder)) throw error // another build may have been quicker
  }
  const entries = fs
    .readdirSync(root)
    .filter(each => !each.startsWith('.'))
    .map(each => ({
      each,
      time: fs.statSync(path.join(root, each), { throwIfNoEntry: false })?.mtimeMs ?? 0,
    }))
    .sort((a, b) => b.time - a.time)
  for (const { each, time } of entries.slice(KEPT))
    if (Date.now() - time > 3_600_000) fs.rmSync(path.join(root, each), { recursive: true, force: true })
  return folder
}
