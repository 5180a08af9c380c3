/** The page breakdown as a person wants to read it: runs of pages, symbols by page, and the pointers that crash elsewhere. */
import path from 'node:path'
import { hex } from '../../lib/bytes.js'
import type { LoadedFiles } from '../../model/loaded-files.js'
import { PAGE_SIZE, PAGE_SIZE_BIG } from '../../model/memory.js'
import { contentsText, type PageRun } from '../../model/page-breakdown.js'
import type { Process } from '../../model/process.js'
import type { VdsoPointer } from '../../model/vdso-pointers.js'
import { columns, styled } from '../output.js'

export interface ProcessPages {
  readonly process: Process
  readonly runs: readonly PageRun[]
  readonly pointers: readonly VdsoPointer[]
  readonly loaded: LoadedFiles
}

/** `12` or `[2-134]`, as page maps are written by hand. */
export function pagesText(first: number, count: number): string {
  return count === 1 ? String(first) : `[${first}-${first + count - 1}]`
}

export function breakdownText({ process, runs, loaded }: ProcessPages, symbols: boolean): string {
  const blocks: string[] = []
  for (const file of new Set(runs.map(run => run.file))) {
    const own = runs.filter(run => run.file === file)
    const pages = own.reduce((sum, run) => sum + run.count, 0)
    blocks.push(
      styled(
        'bold',
        `pid ${process.pid} ${process.name}, ${file ? path.basename(file) : 'no file'}: ${pages} pages`,
      ),
    )
    const rows = own.map(run => [
      file ? pagesText(run.first, run.count) : String(run.count),
      hex(run.address),
      permissions(run),
      styled('green', contentsText(run, process.executable)),
    ])
    const titles = ['page', 'address', 'mapping', 'contents'].map(title => styled('dim', title))
    blocks.push(columns([titles, ...rows], { indent: '  ' }))
    if (symbols) blocks.push(...own.flatMap(run => symbolsText(run, loaded)))
  }
  return blocks.join('\n')
}

function permissions({ mapping }: PageRun): string {
  if (mapping === undefined) return '?'
  const { read, write, execute, shared } = mapping
  return `${read ? 'r' : '-'}${write ? 'w' : '-'}${execute ? 'x' : '-'}${shared ? 's' : 'p'}`
}

/** The symbols on each page that the image holds; one that spans pages is named on each. */
function symbolsText(run: PageRun, loaded: LoadedFiles): string[] {
  const lines: string[] = []
  for (let page = 0; page < run.count; page++) {
    const start = run.address + BigInt(page) * PAGE_SIZE_BIG
    const rows = [...loaded.symbols(start, start + PAGE_SIZE_BIG)].map(hit => [
      hit.address < start ? '…' : hex(hit.address - start),
      hit.size === 0 ? '' : String(hit.size),
      hit.name,
    ])
    if (rows.length === 0) continue
    lines.push(`  ${styled('cyan', `page ${run.first + page}`)}  ${hex(start)}`)
    lines.push(columns(rows, { indent: '    ', right: [0, 1] }))
  }
  return lines
}

/** What is known about a word that points into the vDSO or vvar. */
export function pointerFacts(pointer: VdsoPointer, { runs, loaded }: ProcessPages) {
  const page = pointer.address & ~(PAGE_SIZE_BIG - 1n)
  const run = runs.find(
    each => each.address <= page && page < each.address + BigInt(each.count) * PAGE_SIZE_BIG,
  )
  const inRun = run && Number(page - run.address) / PAGE_SIZE
  const holder = loaded.symbol(pointer.address)
  return {
    page: run && run.first + inRun!,
    file: run?.file,
    offset: Number(pointer.address - page),
    address: pointer.address,
    contents: run?.contents ?? [],
    symbol: holder && { name: holder.name, offset: Number(pointer.address - holder.address) },
    value: pointer.value,
    target: pointer.target,
    function: pointer.function,
  }
}

/** Most warnings of one process that are printed in full. */
const SHOWN = 20

export function pointerWarnings(pages: ProcessPages): string[] {
  const facts = pages.pointers.map(pointer => pointerFacts(pointer, pages))
  const calls = facts.filter(fact => fact.function !== undefined)
  const lines = calls.slice(0, SHOWN).map(fact => {
    const where = `page ${fact.page ?? '?'} (${fact.contents.join(' ')}) offset ${hex(fact.offset)}`
    const holder =
      fact.symbol && ` in ${fact.symbol.name}${fact.symbol.offset ? `+${hex(fact.symbol.offset)}` : ''}`
    return `${where}${holder ?? ''} holds ${hex(fact.value)}, the ${fact.function} of this image's vDSO`
  })
  if (calls.length > SHOWN) lines.push(`and ${calls.length - SHOWN} more such words`)
  if (calls.length > 0)
    lines.push(
      'a process that gets these pages on another machine or architecture crashes there: patch the words (imago recompose)',
    )
  if (facts.length > calls.length)
    lines.push(
      `${facts.length - calls.length} more words point into vDSO or vvar, not at a function: harmless as a rule (--json lists them)`,
    )
  return lines
}
