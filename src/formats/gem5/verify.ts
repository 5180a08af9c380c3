/**
 * What gem5 takes for granted in a checkpoint and does not check: summaries that follow from other fields, lists of the
 * right length, both copies of the local APIC, events that lie ahead, stores that fit their range.
 */
import fs from 'node:fs'
import path from 'node:path'
import { highestVector } from '../../isa/pc.js'
import { CheckpointText } from './checkpoint-text.js'
import { Gem5Fields } from './fields.js'
import { checkpointFolder } from './machine.js'
import { fromSegAttributes, toSegAttributes } from './segment-attributes.js'
import { ATTRIBUTES } from './table/segments.js'

/** The problems found; none when it is sound. @throws UnreadableError when it cannot be read at all. */
export function verifyGem5(location: string): string[] {
  const folder = checkpointFolder(location)
  const text = CheckpointText.read(path.join(folder, 'm5.cpt'))
  const fields = new Gem5Fields(text)
  const fullSystem = text.get('root', 'FullSystem') !== 'false'
  return [
    ...lengths(fields),
    ...(fullSystem ? [...apicCopies(fields), ...apicSummaries(fields), ...events(fields)] : []),
    ...segments(fields),
    ...translations(text),
    ...stores(text, folder),
  ]
}

const element = (fields: Gem5Fields, name: string): bigint => {
  const value = fields.get(name)
  return typeof value === 'bigint' ? value : 0n
}

/** gem5 ends with "Array size mismatch" where a list has another length. */
function lengths(fields: Gem5Fields): string[] {
  const expected: readonly (readonly [role: string, key: string, count: number])[] = fields.is2011
    ? [
        ['xc', 'intRegs', 39],
        ['xc', 'floatRegs.i', 48],
        ['xc', 'regVal', 204],
      ]
    : [
        ['xc', 'regs.integer', 312],
        ['xc', 'regs.floating_point', 384],
        ['xc', 'regs.condition_code', 40],
        ['isa', 'regVal', 205],
      ]
  return [...expected, ['apic', 'regs', 70] as const, ['ioApic', 'redirTableArray', 24] as const].flatMap(
    ([role, key, count]) => {
      const value = fields.string(role, key)
      const found = value === undefined ? count : value.split(/\s+/).length
      return found === count ? [] : [`'${key}' has ${found} elements; gem5 expects ${count}`]
    },
  )
}

function apicCopies({ roles, text }: Gem5Fields): string[] {
  const [first, ...others] = roles.apic ?? []
  if (first === undefined) return []
  const keys = ['regs', 'IRRV', 'ISRV', 'apicTimerEventScheduled', 'apicTimerEventTick']
  return others.flatMap(section =>
    keys
      .filter(key => text.get(section, key) !== text.get(first, key))
      .map(key => `the copies of the local APIC in [${first}] and [${section}] differ in '${key}'`),
  )
}

const IN_SERVICE = 9
const REQUESTED = 41
function apicSummaries(fields: Gem5Fields): string[] {
  if (!fields.has('apic')) return []
  const highest = (first: number) =>
    highestVector(Array.from({ length: 8 }, (_, i) => Number(element(fields, `apic.regs[${first + i}]`))))
  return (
    [
      ['IRRV', 'IRR', highest(REQUESTED)],
      ['ISRV', 'ISR', highest(IN_SERVICE)],
    ] as const
  ).flatMap(([key, name, expected]) => {
    const found = Number(element(fields, `apic.${key}`))
    return found === expected ? [] : [`${key} is ${found}, the highest vector in ${name} is ${expected}`]
  })
}

function events(fields: Gem5Fields): string[] {
  const now = element(fields, 'globals.curTick')
  const due = element(fields, 'apic.apicTimerEventTick')
  const scheduled = element(fields, 'apic.apicTimerEventScheduled') !== 0n
  return scheduled && due < now ? [`the APIC timer is due at tick ${due}, before curTick ${now}`] : []
}

const segmentNames = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS']
const PRESENT = 0x80n
/** Writable, readable, expand down, code or data: they follow from the type. */
const DERIVED = 0xf000
function segments(fields: Gem5Fields): string[] {
  return segmentNames.flatMap((name, i) => {
    const attributes = element(fields, `isa.regVal[${ATTRIBUTES + i}]`)
    if ((attributes & PRESENT) === 0n) return []
    const found = Number(attributes & 0xffffn)
    const expected = toSegAttributes(fromSegAttributes(found))
    return (found & DERIVED) === (expected & DERIVED)
      ? []
      : [
          `the attributes of ${name} are 0x${found.toString(16)}; its type makes them 0x${expected.toString(16)}`,
        ]
  })
}

function translations(text: CheckpointText): string[] {
  const names = text.names()
  return names.flatMap(name => {
    const size = text.get(name, '_size')
    if (!/\.[id]tb$/.test(name) || size === undefined) return []
    const entries = names.filter(each => each.startsWith(`${name}.Entry`)).length
    return Number(size) === entries ? [] : [`[${name}] counts ${size} translations, and there are ${entries}`]
  })
}

/** A gzipped store ends where it ends; one that is not may not be longer than its range. */
function stores(text: CheckpointText, folder: string): string[] {
  return text.names().flatMap(name => {
    const file = text.get(name, 'filename')
    const range = Number(text.get(name, 'range_size') ?? text.get(name, '_size'))
    if (file === undefined || !Number.isFinite(range)) return []
    const place = path.join(folder, path.basename(file))
    if (!fs.existsSync(place)) return [`${file}, which holds RAM, is not there`]
    const head = Buffer.alloc(2)
    const fd = fs.openSync(place, 'r')
    try {
      fs.readSync(fd, head, 0, 2, 0)
      const { size } = fs.fstatSync(fd)
      const gzipped = head[0] === 0x1f && head[1] === 0x8b
      return gzipped || size <= range ? [] : [`${file} has ${size} bytes, its range ${range}`]
    } finally {
      fs.closeSync(fd)
    }
  })
}
