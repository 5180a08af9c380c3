/** The differences between two process images, one a line: `-` before, `+` after. */

import { signalName } from '../../isa/linux.js'
import { hex } from '../../lib/bytes.js'
import { PAGE_SIZE } from '../../model/memory.js'
import type { PageRange } from '../../model/memory-diff.js'
import type { ProcessImage } from '../../model/process.js'
import { mappingText, type ProcessDiff, type ProcessImageDiff } from '../../model/process-diff.js'
import { bytesText, styled } from '../output.js'

/** How many page ranges are listed before the rest is counted only. */
const RANGES_SHOWN = 20

export function processDiffText(diff: ProcessImageDiff, before: ProcessImage): string {
  if (diff.isa === undefined && diff.processes.length === 0) return 'no difference'
  return [
    ...(diff.isa ? [`ISA: ${diff.isa.before} → ${diff.isa.after}`] : []),
    ...diff.processes.map(process => oneProcess(process, before)),
  ].join('\n\n')
}

function oneProcess(diff: ProcessDiff, before: ProcessImage): string {
  const { pid } = diff
  if (pid.before === undefined) return removedOrAdded('+', `process ${pid.after}`)
  if (pid.after === undefined) return removedOrAdded('-', `process ${pid.before}`)
  const lines = [
    styled('bold', pid.before === pid.after ? `pid ${pid.before}` : `pid ${pid.before} → ${pid.after}`),
  ]
  for (const field of diff.fields)
    lines.push(`  ${field.name}: ${field.before ?? '–'} → ${field.after ?? '–'}`)
  for (const thread of diff.threads) {
    if (thread.tid.before === undefined) lines.push(`  ${removedOrAdded('+', `thread ${thread.tid.after}`)}`)
    else if (thread.tid.after === undefined)
      lines.push(`  ${removedOrAdded('-', `thread ${thread.tid.before}`)}`)
    else {
      lines.push(
        `  thread ${thread.tid.before}: ${thread.registers.length} registers${thread.vectorChanged ? ' and vector state' : ''}`,
      )
      for (const { name, before: old, after } of thread.registers)
        lines.push(
          `    ${name.padEnd(8)} ${old === undefined ? '–' : hex(old)} → ${after === undefined ? '–' : hex(after)}`,
        )
    }
  }
  for (const { before: old, after } of diff.mappings) {
    if (old) lines.push(`  ${removedOrAdded('-', mappingText(old)!)}`)
    if (after) lines.push(`  ${removedOrAdded('+', mappingText(after)!)}`)
  }
  for (const file of diff.files) {
    if (file.before !== undefined) lines.push(`  ${removedOrAdded('-', `fd ${file.fd} ${file.before}`)}`)
    if (file.after !== undefined) lines.push(`  ${removedOrAdded('+', `fd ${file.fd} ${file.after}`)}`)
  }
  for (const signal of diff.signals)
    lines.push(`  ${signalName(signal.signal)}: ${signal.before ?? 'default'} → ${signal.after ?? 'default'}`)
  lines.push(...pagesText(diff.pages, before, pid.before))
  return lines.join('\n')
}

function pagesText(ranges: readonly PageRange[], image: ProcessImage, pid: number): string[] {
  const lines: string[] = []
  for (const change of ['changed', 'added', 'removed'] as const) {
    const some = ranges.filter(range => range.change === change)
    const pages = some.reduce((sum, range) => sum + range.pages, 0)
    if (pages > 0)
      lines.push(`  ${pages} pages ${change} (${bytesText(pages * PAGE_SIZE)}) in ${some.length} ranges`)
    for (const range of some.slice(0, RANGES_SHOWN))
      lines.push(
        `    ${hex(range.start)}  ${String(range.pages).padStart(7)}  ${nameOf(range.start, image, pid)}`.trimEnd(),
      )
    if (some.length > RANGES_SHOWN)
      lines.push(`    … and ${some.length - RANGES_SHOWN} more ranges (--json lists all)`)
  }
  return lines
}

function nameOf(address: bigint, image: ProcessImage, pid: number): string {
  const mapping = image.processes
    .find(process => process.pid === pid)
    ?.mappings.find(each => each.start <= address && address < each.end)
  return mapping === undefined ? '' : (mapping.file?.path ?? mapping.kind)
}

function removedOrAdded(sign: '-' | '+', text: string): string {
  return styled(sign === '-' ? 'red' : 'green', `${sign} ${text}`)
}
