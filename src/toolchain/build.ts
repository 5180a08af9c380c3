/**
 * `imago cc`, from words to files:
 *
 *   file.c ──clang──► IR ┐
 *   file.o (IR) ─────────┼─llvm-link─► one module ─transform─► IR with sites ─┬─llc─► program.o ┐ ─lld─► PROG_x86-64
 *   points.c ──clang──► IR ┘                                                  └─llc─► program.o ┘ ─lld─► PROG_aarch64
 *                                                     runtime of each ISA ─────────────────────┘        PROG.imago.json
 *
 * objects.ts makes what is in the middle of the drawing: transform, llc, and the runtime.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { UnreadableError, UsageError } from '../lib/errors.js'
import { describe } from './describe.js'
import type { Layout } from './layout.js'
import { linkBoth } from './link.js'
import { makeProgramObjects, makeRuntimeObjects, runtimeFolder, WITH_THE_PROGRAM } from './objects.js'
import type { CompilerOptions } from './options.js'
import { parsePolicy } from './polls.js'
import { isaNames, perIsa } from './program.js'
import { inParallel, Tools, targets } from './tools.js'

const overlayFolder = path.join(runtimeFolder, 'include')

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
    const runtime = makeRuntimeObjects(tools)
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
    const program = await makeProgramObjects(tools, linked, policy, options.migrateAt)
    const runtimeObjects = await runtime
    const outputs = perIsa(isa => path.join(folder, `${path.basename(output)}_${isa}`))
    const { layout, symbols } = await linkBoth(
      tools,
      folder,
      perIsa(isa => [path.join(program.folder, isa, 'program.o'), ...runtimeObjects[isa]]),
      outputs,
    )
    const json = await describe(tools, path.basename(output), program.identity, outputs, program.frames)
    const files = [...isaNames.map(isa => `${output}_${isa}`), `${output}.imago.json`]
    for (const isa of isaNames) replaceFile(outputs[isa], `${output}_${isa}`)
    const description = path.join(folder, 'description')
    fs.writeFileSync(description, json)
    replaceFile(description, `${output}.imago.json`)
    return {
      files,
      layout,
      symbols,
      sites: program.frames.sites.length,
      functions: program.frames.functions.length,
      polls: program.polls,
      said: said.join('') + (program.canMigrate ? '' : NO_MIGRATION_POINT),
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
