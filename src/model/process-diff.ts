/** What changed between two process images: processes, registers, mappings, pages, files, signals. Pure. */
import { differingPages, type PageRange } from './memory-diff.js'
import type { FileDescription, Mapping, Process, ProcessImage, Thread } from './process.js'

/** A value before and after; undefined where one side has none. */
export interface Change<T> {
  readonly before: T | undefined
  readonly after: T | undefined
}

export interface ThreadDiff {
  readonly tid: Change<number>
  readonly registers: ReadonlyArray<{ readonly name: string } & Change<bigint>>
  readonly vectorChanged: boolean
  readonly signalMask: Change<bigint> | undefined
}

export interface ProcessDiff {
  readonly pid: Change<number>
  readonly fields: ReadonlyArray<{ readonly name: string } & Change<string>>
  readonly threads: readonly ThreadDiff[]
  readonly mappings: ReadonlyArray<Change<Mapping>>
  readonly pages: readonly PageRange[]
  readonly files: ReadonlyArray<{ readonly fd: number } & Change<string>>
  readonly signals: ReadonlyArray<{ readonly signal: number } & Change<string>>
}

export interface ProcessImageDiff {
  readonly isa: Change<string> | undefined
  readonly processes: readonly ProcessDiff[]
}

/** Processes are paired by pid, or by their order where both images hold one. Only differences are listed. */
export function diffProcessImages(before: ProcessImage, after: ProcessImage): ProcessImageDiff {
  const pairs =
    before.processes.length === 1 && after.processes.length === 1
      ? [[before.processes[0], after.processes[0]] as const]
      : pairBy(before.processes, after.processes, process => process.pid)
  return {
    isa: before.isa === after.isa ? undefined : { before: before.isa, after: after.isa },
    processes: pairs.map(([a, b]) => diffProcess(a, b, before, after)).filter(diff => !isEmpty(diff)),
  }
}

function isEmpty(diff: ProcessDiff): boolean {
  return (
    diff.pid.before === diff.pid.after &&
    [diff.fields, diff.threads, diff.mappings, diff.pages, diff.files, diff.signals].every(
      list => list.length === 0,
    )
  )
}

function diffProcess(
  a: Process | undefined,
  b: Process | undefined,
  before: ProcessImage,
  after: ProcessImage,
): ProcessDiff {
  const pid = { before: a?.pid, after: b?.pid }
  if (a === undefined || b === undefined)
    return { pid, fields: [], threads: [], mappings: [], pages: [], files: [], signals: [] }
  return {
    pid,
    fields: changedFields(processFields(a), processFields(b)).map(([name, change]) => ({ name, ...change })),
    threads: threadPairs(a.threads, b.threads)
      .map(diffThread)
      .filter(thread => thread !== undefined),
    mappings: pairBy(a.mappings, b.mappings, mapping => mapping.start)
      .filter(([x, y]) => mappingText(x) !== mappingText(y))
      .map(([x, y]) => ({ before: x, after: y })),
    pages: [...differingPages(a.memory, b.memory)],
    files: changedFields(fileTexts(a, before), fileTexts(b, after)).map(([fd, change]) => ({
      fd: Number(fd),
      ...change,
    })),
    signals: changedFields(signalTexts(a), signalTexts(b)).map(([signal, change]) => ({
      signal: Number(signal),
      ...change,
    })),
  }
}

/** By tid; where the tids of two images have nothing in common (another life of the program), by order. */
function threadPairs(
  a: readonly Thread[],
  b: readonly Thread[],
): Array<readonly [Thread | undefined, Thread | undefined]> {
  const shared = new Set(a.map(thread => thread.tid))
  if (b.some(thread => shared.has(thread.tid))) return pairBy(a, b, thread => thread.tid)
  return Array.from({ length: Math.max(a.length, b.length) }, (_, i) => [a[i], b[i]] as const)
}

function diffThread([a, b]: readonly [Thread | undefined, Thread | undefined]): ThreadDiff | undefined {
  const tid = { before: a?.tid, after: b?.tid }
  if (a === undefined || b === undefined)
    return { tid, registers: [], vectorChanged: false, signalMask: undefined }
  const names = new Set([...a.registers.general.keys(), ...b.registers.general.keys()])
  const registers = [...names]
    .map(name => ({ name, before: a.registers.general.get(name), after: b.registers.general.get(name) }))
    .filter(register => register.before !== register.after)
  const vectorChanged = !sameVector(a.registers.vector, b.registers.vector)
  const signalMask = a.signalMask === b.signalMask ? undefined : { before: a.signalMask, after: b.signalMask }
  return registers.length > 0 || vectorChanged || signalMask
    ? { tid, registers, vectorChanged, signalMask }
    : undefined
}

function sameVector(a: Thread['registers']['vector'], b: Thread['registers']['vector']): boolean {
  if (a === undefined || b === undefined || a.isa !== b.isa) return a === b
  if (a.isa === 'aarch64')
    return b.isa === 'aarch64' && a.fpsr === b.fpsr && a.fpcr === b.fpcr && a.v.every((v, i) => v === b.v[i])
  if (b.isa !== 'x86-64' || Buffer.compare(a.fxsave.subarray(0, 464), b.fxsave.subarray(0, 464)) !== 0)
    return false
  // A component that is not in use is in its initial state, whatever bytes an image holds of it.
  const used = (state: typeof a, number: number) =>
    (state.inUse >> BigInt(number)) & 1n ? state.components.get(number) : undefined
  return [...new Set([...a.components.keys(), ...b.components.keys()])].every(number =>
    Buffer.from(used(a, number) ?? []).equals(used(b, number) ?? new Uint8Array()),
  )
}

function processFields(process: Process): Map<string, string> {
  return new Map([
    ['name', process.name],
    ['executable', process.executable ?? '?'],
    ['state', process.state],
    ['parent', String(process.parent)],
    ['process group', String(process.processGroup)],
    ['session', String(process.session)],
    ['working directory', process.workingDirectory ?? '?'],
    ['umask', process.umask?.toString(8) ?? '?'],
    ['brk', `0x${process.layout.brk.toString(16)}`],
    ...[...process.limits].map(
      ([name, limit]) => [`limit ${name}`, `${limit.soft}/${limit.hard}`] as [string, string],
    ),
  ])
}

/** One line that holds everything of a mapping that can differ. */
export function mappingText(mapping: Mapping | undefined): string | undefined {
  if (mapping === undefined) return undefined
  const flags = `${mapping.read ? 'r' : '-'}${mapping.write ? 'w' : '-'}${mapping.execute ? 'x' : '-'}${mapping.shared ? 's' : 'p'}`
  const file = mapping.file
    ? ` ${mapping.file.path}+0x${mapping.file.offset.toString(16)}${mapping.file.deleted ? ' (deleted)' : ''}`
    : ''
  const advice = mapping.advice.length > 0 ? ` [${mapping.advice.join(' ')}]` : ''
  return `0x${mapping.start.toString(16)}-0x${mapping.end.toString(16)} ${flags} ${mapping.kind}${file}${advice}`
}

/** `regular /tmp/x, at 120, 0x8002`. @param flagsText names the O_* flags, whose numbers depend on the ISA. */
export function descriptionText(
  description: FileDescription | undefined,
  flagsText = (flags: number) => `flags 0x${flags.toString(16)}`,
): string {
  if (description === undefined) return '?'
  const details = Object.entries(description.details).map(([name, value]) => `${name} ${value}`)
  return [
    `${description.kind}${description.path ? ` ${description.path}` : ''}${description.deleted ? ' (deleted)' : ''}`,
    ...(description.kind === 'regular' ? [`at ${description.offset}`] : []),
    flagsText(description.flags),
    ...details,
  ].join(', ')
}

function fileTexts(process: Process, image: ProcessImage): Map<string, string> {
  return new Map(
    process.files.map(file => [
      String(file.fd),
      `${descriptionText(image.descriptions.get(file.description))}${file.closeOnExec ? ', close-on-exec' : ''}`,
    ]),
  )
}

function signalTexts(process: Process): Map<string, string> {
  return new Map(
    [...process.signalActions]
      .filter(([, action]) => action.handler !== 0n)
      .map(([signal, action]) => [
        String(signal),
        `handler 0x${action.handler.toString(16)}, flags 0x${action.flags.toString(16)}, mask 0x${action.mask.toString(16)}`,
      ]),
  )
}

function changedFields(
  before: Map<string, string>,
  after: Map<string, string>,
): Array<[string, Change<string>]> {
  return [...new Set([...before.keys(), ...after.keys()])]
    .map((name): [string, Change<string>] => [name, { before: before.get(name), after: after.get(name) }])
    .filter(([, change]) => change.before !== change.after)
}

function pairBy<T, K>(
  a: readonly T[],
  b: readonly T[],
  key: (item: T) => K,
): Array<readonly [T | undefined, T | undefined]> {
  const left = new Map(a.map(item => [key(item), item]))
  const right = new Map(b.map(item => [key(item), item]))
  return [...new Set([...left.keys(), ...right.keys()])].map(
    each => [left.get(each), right.get(each)] as const,
  )
}
