/** One IR module of a whole program → the same program with migration points: text in, text out, through opt. */
import { ImagoError } from '../lib/errors.js'
import { CallGraph, PARK, siteTest } from './call-graph.js'
import { lowerComputedGotos } from './computed-gotos.js'
import {
  declare,
  functionsOf,
  Locations,
  type Module,
  parseModule,
  printModule,
  renamePredecessors,
} from './ir.js'
import { insertPolls, type PollPolicy } from './polls.js'
import { neutralize, prepare } from './prepare.js'
import { USER_MAIN } from './program.js'
import { renameLibraryCalls } from './renames.js'
import { addShadowFrames, type ShadowFrames } from './shadow-frames.js'
import { dropTailMarks } from './tail-marks.js'
import { lowerThreadLocals } from './thread-locals.js'
import { type Tools, targets } from './tools.js'
import { refuseUnsupported } from './unsupported.js'
import { lowerVariadics } from './variadics.js'

export interface Transformed extends ShadowFrames {
  /** For both back ends. */
  readonly ir: string
  readonly polls: number
  /** Whether main reaches a migration point at all. */
  readonly canMigrate: boolean
}

/** First what clang leaves at -O0 though nothing reaches it goes, such as the branch of `isnan` for a long double. */
const NAMED = 'function(sccp),globaldce,function(loop-simplify,lcssa,instnamer)'
/** What the back end would do to loops, done before there are slots: there it would carry values across sites. */
const LOOPS = 'function(loop-mssa(licm),loop(loop-reduce),early-cse,instnamer)'
const SLOTS = 'function(reg2mem)'
const CLEAN_UP = 'function(mem2reg,sroa,early-cse,instcombine<no-verify-fixpoint>,simplifycfg,early-cse)'
/** Sinking a value into the block that closes a loop would make the loop two blocks long. */
const OPTIONS = ['-S', '-instcombine-code-sinking=0', `-mtriple=${targets['x86-64'].triple}`]

/** @param linked the whole program as IR. @throws LossError for what cannot migrate, with function and line. */
export async function transform(tools: Tools, linked: string, policy: PollPolicy): Promise<Transformed> {
  const opt = async (passes: string, input: string): Promise<Module> => {
    const { stdout } = await tools.run('opt', [...OPTIONS, `-passes=${passes}`, '-o', '-', '-'], { input })
    return parseModule(neutralize(stdout.replace(/^source_filename.*\n/m, '')))
  }
  const polled = await opt(NAMED, renameMain(linked))
  if (!functionsOf(polled).some(fn => fn.name === USER_MAIN))
    throw new ImagoError('the program has no main', { hint: 'without -c imago cc makes a whole program' })
  lowerComputedGotos(polled)
  lowerThreadLocals(polled)
  renameLibraryCalls(polled)
  lowerVariadics(polled)
  dropTailMarks(polled)
  declare(polled, 'declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)')
  const polls = insertPolls(polled, new CallGraph(polled), policy)
  const migratable = new CallGraph(polled).reaching([PARK])
  refuseUnsupported(polled, migratable, new Locations(polled))
  const module = await opt(LOOPS, printModule(polled))
  prepare(module, migratable, siteTest(new CallGraph(module), migratable))
  const slots = await opt(SLOTS, printModule(module))
  const isSite = siteTest(new CallGraph(slots), migratable)
  const frames = addShadowFrames(slots, migratable, isSite, new Locations(slots))
  const clean = await opt(CLEAN_UP, printModule(slots))
  splitAfterStackmaps(clean)
  return { ...frames, ir: printModule(clean), polls, canMigrate: migratable.has(USER_MAIN) }
}

/** Not in the text of a constant, whose lines begin with the name of a global. */
const renameMain = (text: string) =>
  text.replace(/^[^@\n].*$/gm, line => line.replace(/@main(?=\()/g, `@${USER_MAIN}`))

/** A block boundary after each site, so that instruction selection shares nothing between the two sides. */
function splitAfterStackmaps(module: Module): void {
  let n = 0
  for (const fn of functionsOf(module)) {
    const rename = new Map<string, string>()
    fn.blocks = fn.blocks.flatMap(block => {
      const parts = [{ label: block.label, instructions: [] as string[] }]
      for (const instruction of block.instructions) {
        parts.at(-1)!.instructions.push(instruction)
        if (!instruction.includes('@llvm.experimental.stackmap(')) continue
        const label = `imago.back.${n++}`
        parts.at(-1)!.instructions.push(`  br label %${label}`)
        parts.push({ label, instructions: [] })
        rename.set(block.label, label)
      }
      return parts
    })
    if (rename.size > 0) renamePredecessors(fn, rename)
  }
}
