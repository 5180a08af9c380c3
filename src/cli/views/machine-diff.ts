/** What two machine images say differently: a line a field, RAM as a count of pages and its first ranges. */
import { pciClass, pciId } from '../../isa/pci.js'
import { hex } from '../../lib/bytes.js'
import type { MachineDiff } from '../../model/machine-diff.js'
import { columns } from '../output.js'

const MOST_BYTES = 32

function valueText(value: unknown, field: string): string {
  if (typeof value === 'bigint' || typeof value === 'number') return hex(value)
  if (value === undefined) return '–'
  if (!(value instanceof Uint8Array)) return String(value)
  if (field.startsWith('pciFunctions.')) return `${pciId(value)} ${pciClass(value)}`
  const text = Buffer.from(value.subarray(0, MOST_BYTES)).toString('hex') || 'empty'
  return value.length > MOST_BYTES ? `${text}… (${value.length} bytes)` : text
}

/** `0x2 → 0x3`; bytes that read the same in short are told apart by where they differ. */
function changeCells(field: string, before: unknown, after: unknown): string[] {
  const cells = [valueText(before, field), '→', valueText(after, field)]
  if (before instanceof Uint8Array && after instanceof Uint8Array && cells[0] === cells[2]) {
    const first = before.findIndex((byte, i) => byte !== after[i])
    cells.push(`from byte ${first < 0 ? Math.min(before.length, after.length) : first} on`)
  }
  return cells
}

const MOST_RANGES = 16

export function machineDiffText(diff: MachineDiff): string {
  const rows = diff.fields.map(({ field, before, after, cpu }) => [
    field.replace(/^cpu\./, `cpu${cpu > 0 ? cpu : ''}.`),
    ...changeCells(field, before, after),
  ])
  const pages = diff.memory.reduce((sum, range) => sum + range.pages, 0)
  const lines = [
    ...(diff.cpus ? [`${diff.cpus[0]} CPUs → ${diff.cpus[1]}`] : []),
    ...(rows.length > 0 ? [columns(rows)] : []),
    ...(pages > 0
      ? [
          `RAM: ${pages} ${pages === 1 ? 'page differs' : 'pages differ'}`,
          ...diff.memory
            .slice(0, MOST_RANGES)
            .map(({ start, pages, change }) => `  ${hex(start)}  ${pages} ${change}`),
          ...(diff.memory.length > MOST_RANGES
            ? [`  and ${diff.memory.length - MOST_RANGES} more ranges`]
            : []),
        ]
      : []),
  ]
  return lines.length > 0 ? lines.join('\n') : 'the machines are the same'
}
