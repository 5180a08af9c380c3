/**
 * What Palacios asks for when it loads a checkpoint: every tag by name, in its order, with a value of its length. A tag
 * too much, too few or too long and all that follow are read wrong; derived fields it takes as they are.
 */
import { PalaciosFields } from './fields.js'
import { DEVICE_ID_BYTES, signatures, tagLengths, tagOrder } from './layout.js'
import { readCheckpoint } from './machine.js'
import type { Context } from './records.js'

/** The problems found; none when it is sound. @throws UnreadableError when it cannot be read at all. */
export function verifyPalacios(directory: string): string[] {
  const { contexts } = readCheckpoint(directory)
  const fields = new PalaciosFields(contexts, { apicClock: 1e9, paging: undefined }, directory)
  return [...contexts.flatMap(context => tags(context)), ...deviceList(contexts), ...derived(fields)]
}

function tags({ key, records }: Context): string[] {
  const role = Object.entries(signatures).find(([, tag]) => records.some(record => record.tag === tag))?.[0]
  const order = role === undefined ? undefined : tagOrder.get(role)
  if (order === undefined) return []
  const known = records.filter(({ tag }) => order.has(tag))
  const lengths = known
    .filter(({ tag, data }) => data.length !== tagLengths.get(tag))
    .map(
      ({ tag, data }) =>
        `[${key}] ${tag} has ${data.length} bytes; Palacios reads ${tagLengths.get(tag)} and the rest as the next tag`,
    )
  const misplaced = known.findIndex(({ tag }, i) => i > 0 && order.get(tag)! <= order.get(known[i - 1]!.tag)!)
  return misplaced < 0
    ? lengths
    : [
        ...lengths,
        `[${key}] ${known[misplaced]!.tag} does not follow ${known[misplaced - 1]!.tag} in Palacios`,
      ]
}

function deviceList(contexts: readonly Context[]): string[] {
  const list = contexts.find(({ key }) => key === 'devices')
  const data = (tag: string) => list?.records.find(record => record.tag === tag)?.data
  const [count, names] = [data('num_devs'), data('names')]
  if (count?.length !== 4 || names === undefined) return ['the list of devices is missing']
  const number = Buffer.from(count).readUInt32LE()
  if (names.length !== number * DEVICE_ID_BYTES)
    return [`the list names ${names.length / DEVICE_ID_BYTES} devices and counts ${number}`]
  const keys = new Set(contexts.map(({ key }) => key))
  return Array.from({ length: number }, (_, i) =>
    Buffer.from(names.subarray(i * DEVICE_ID_BYTES, (i + 1) * DEVICE_ID_BYTES))
      .toString('latin1')
      .replace(/\0.*$/s, ''),
  )
    .filter(name => !keys.has(name))
    .map(name => `device '${name}' is listed and has no context`)
}

function derived(fields: PalaciosFields): string[] {
  const problems: string[] = []
  const has = (name: string) => fields.get(`guest/${name}`) !== undefined
  const ss = fields.bytes('guest/SS')
  if (has('CPL') && ss !== undefined && ss.length === 16) {
    const [cpl, dpl] = [Number(fields.integer('guest/CPL')), (ss[14]! >> 5) & 3]
    if (cpl !== dpl) problems.push(`CPL is ${cpl}, the DPL of SS ${dpl}`)
  }
  const [cr8, tpr] = [fields.integer('guest/CR8'), fields.integer('guest/APIC_TPR')]
  if (has('CR8') && has('APIC_TPR') && cr8 !== ((tpr >> 4n) & 15n))
    problems.push(`CR8 is ${cr8}, the task priority 0x${tpr.toString(16)}`)
  return problems
}
