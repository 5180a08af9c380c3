/** Neutral IR → an object file of one ISA, checked while it is made. */
import fs from 'node:fs/promises'
import type { IsaName } from '../model/process.js'
import type { SiteInSource } from './shadow-frames.js'
import { type Tools, targets } from './tools.js'
import { CHECKED_PASSES, requireNoLeak, verifyDump } from './verify.js'

/**
 * Passes that would keep a value in a register from one side of a site to the other are off. The verifier, not this
 * list, is what makes it safe.
 */
const OPTIONS = [
  ...['-O2', '--frame-pointer=all', '-relocation-model=static', '-function-sections', '-data-sections'],
  ...['-disable-cgp', '-disable-machine-licm', '-disable-postra-machine-licm'],
  ...['-disable-lsr', '-disable-constant-hoisting'],
]
/**
 * What is tried first, and then without this. On aarch64 halves of addresses always would be shared across sites, and in a
 * large program something always is.
 */
const CAUTIOUS = ['-disable-machine-cse']
const SMALL = 100
const OPTIONS_OF: Readonly<Record<IsaName, readonly string[]>> = {
  'x86-64': ['-mcpu=x86-64', '-no-x86-call-frame-opt'],
  aarch64: [
    ...['-aarch64-enable-atomic-cfg-tidy=0', '-aarch64-enable-global-merge=0'],
    '-aarch64-enable-promote-const=0',
  ],
}

/** @throws LossError when the code would lose a value. */
export async function makeObject(
  tools: Tools,
  isa: IsaName,
  ir: string,
  sites: readonly SiteInSource[],
  object: string,
): Promise<void> {
  const tries = isa === 'x86-64' && sites.length <= SMALL ? [[], CAUTIOUS] : [CAUTIOUS]
  const withSites = [...new Set(sites.map(site => site.function))].join()
  for (const [i, more] of tries.entries()) {
    const { stderr } = await tools.run(
      'llc',
      [
        ...OPTIONS,
        ...OPTIONS_OF[isa],
        ...more,
        ...CHECKED_PASSES.map(pass => `-print-before=${pass}`),
        ...(/["*]/.test(withSites) ? [] : [`-filter-print-funcs=${withSites}`]),
        `-mtriple=${targets[isa].triple}`,
        ...['-filetype=obj', '-o', object, '-'],
      ],
      { input: ir },
    )
    const verdict = verifyDump(stderr)
    if (verdict.leaks.length > 0 && i + 1 < tries.length) continue
    try {
      return requireNoLeak(verdict, isa, sites)
    } catch (error) {
      await fs.rm(object, { force: true })
      throw error
    }
  }
}
