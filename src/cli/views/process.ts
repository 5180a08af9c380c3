/** A process image as a person wants to read it: overview, then each process with threads, memory, files, signals, timers. */

import { openFlagNames } from '../../isa/isa.js'
import { isas } from '../../isa/isas.js'
import { clockName, signalName, signalsInMask } from '../../isa/linux.js'
import { hex } from '../../lib/bytes.js'
import { extentEnd, type Memory } from '../../model/memory.js'
import type { Mapping, Process, ProcessImage, Thread } from '../../model/process.js'
import { descriptionText } from '../../model/process-diff.js'
import { bytesText, columns, durationText, styled } from '../output.js'

export interface ProcessViewOptions {
  /** Every mapping on a line, not only sums by kind. */
  readonly maps: boolean
  /** All registers of every thread, not only where it is. */
  readonly registers: boolean
  /** Names the code at an address: `poll+0x17 (libc.so.6)`; undefined where no symbol is known. */
  nameAddress(process: Process, address: bigint): string | undefined
}

export function processImageText(image: ProcessImage, options: ProcessViewOptions): string {
  const threads = image.processes.reduce((sum, process) => sum + process.threads.length, 0)
  const head = [
    styled('bold', `process image, format ${image.origin.format}, ${image.isa}`),
    ...optionalText(columns(Object.entries(image.origin.notes), { indent: '  ' })),
  ]
  if (image.processes.length > 1) {
    head.push(
      '',
      styled('bold', `${image.processes.length} processes, ${threads} threads`),
      processTree(image.processes),
    )
  }
  return [head.join('\n'), ...image.processes.map(process => processText(process, image, options))].join(
    '\n\n',
  )
}

/** The tree, children indented below their parents. */
function processTree(processes: readonly Process[]): string {
  const depth = new Map<number, number>()
  const rows = processes.map(process => {
    const level = (depth.get(process.parent) ?? -1) + 1
    depth.set(process.pid, level)
    return [
      `${'  '.repeat(level)}${process.pid}`,
      process.name,
      process.state === 'alive' ? (process.executable ?? '') : process.state,
    ]
  })
  return columns(rows, { indent: '  ' })
}

function processText(process: Process, image: ProcessImage, options: ProcessViewOptions): string {
  const title = styled('bold', `pid ${process.pid}  ${process.name}`)
  if (process.state === 'zombie') return `${title}  zombie, exit status ${process.exitStatus ?? '?'}`
  const facts: string[][] = [
    ['executable', process.executable ?? '?'],
    ['directory', process.workingDirectory ?? '?'],
    ['parent', `${process.parent}, group ${process.processGroup}, session ${process.session}`],
  ]
  if (process.rootDirectory !== undefined && process.rootDirectory !== '/')
    facts.push(['root', process.rootDirectory])
  if (process.credentials) {
    const { uid, gid, groups } = process.credentials
    facts.push(['user', `uid ${uid}, gid ${gid}${groups.length > 0 ? `, groups ${groups.join(' ')}` : ''}`])
  }
  if (process.umask !== undefined) facts.push(['umask', process.umask.toString(8).padStart(4, '0')])
  if (process.state !== 'alive') facts.push(['state', process.state])
  return [
    title,
    columns(facts, { indent: '  ' }),
    section(`threads (${process.threads.length})`, threadsText(process, options)),
    section('memory', memoryText(process)),
    ...(options.maps ? [section('mappings', mappingsText(process))] : []),
    ...(process.files.length > 0
      ? [section(`files (${process.files.length})`, filesText(process, image))]
      : []),
    ...optionalSection('signals', signalsText(process, options)),
    ...optionalSection('timers', timersText(process)),
  ].join('\n')
}

function section(title: string, text: string): string {
  return `  ${styled('cyan', title)}\n${text}`
}

function optionalText(text: string): string[] {
  return text === '' ? [] : [text]
}

function optionalSection(title: string, text: string): string[] {
  return text === '' ? [] : [section(title, text)]
}

function threadsText(process: Process, options: ProcessViewOptions): string {
  return process.threads
    .map(thread => {
      const general = thread.registers.general
      const pc = general.get('rip') ?? general.get('pc') ?? 0n
      const sp = general.get('rsp') ?? general.get('sp') ?? 0n
      const where = options.nameAddress(process, pc)
      const blocked = signalsInMask(thread.signalMask)
      const line = columns(
        [
          [
            String(thread.tid),
            thread.name,
            `at ${hex(pc)}${where ? ` ${styled('green', where)}` : ''}`,
            `stack ${hex(sp)}`,
          ],
        ],
        {
          indent: '    ',
        },
      )
      const extra = [
        ...(blocked.length > 0
          ? [`      blocks ${blocked.length > 8 ? `${blocked.length} signals` : blocked.join(' ')}`]
          : []),
        ...(thread.pendingSignals.length > 0
          ? [`      pending ${thread.pendingSignals.map(signal => signalName(signal.signal)).join(' ')}`]
          : []),
        ...(options.registers ? [registersText(thread)] : []),
      ]
      return [line, ...extra].join('\n')
    })
    .join('\n')
}

/** General registers, four to a line. */
function registersText(thread: Thread): string {
  const cells = [...thread.registers.general].map(
    ([name, value]) => `${name.padEnd(8)} ${value.toString(16).padStart(16, '0')}`,
  )
  const rows: string[][] = []
  for (let i = 0; i < cells.length; i += 4) rows.push(cells.slice(i, i + 4))
  return columns(rows, { indent: '      ' })
}

interface MemorySum {
  mappings: number
  size: number
  held: number
  zero: number
}

/** Sums by kind of mapping: how large, how much of it the image holds, how much of that is zeros. */
function memoryText(process: Process): string {
  const sums = new Map<string, MemorySum>()
  for (const mapping of process.mappings) {
    const kind = kindText(mapping)
    const sum = sums.get(kind) ?? { mappings: 0, size: 0, held: 0, zero: 0 }
    sums.set(kind, sum)
    sum.mappings++
    sum.size += Number(mapping.end - mapping.start)
    const { held, zero } = heldWithin(process.memory, mapping)
    sum.held += held
    sum.zero += zero
  }
  const nothing: MemorySum = { mappings: 0, size: 0, held: 0, zero: 0 }
  const total = [...sums.values()].reduce(
    (all, sum) => ({
      mappings: all.mappings + sum.mappings,
      size: all.size + sum.size,
      held: all.held + sum.held,
      zero: all.zero + sum.zero,
    }),
    nothing,
  )
  const row = (kind: string, sum: MemorySum) => [
    kind,
    String(sum.mappings),
    bytesText(sum.size),
    bytesText(sum.held),
    bytesText(sum.zero),
  ]
  return columns(
    [
      ['kind', 'mappings', 'size', 'in image', 'of it zero'].map(title => styled('dim', title)),
      ...[...sums]
        .sort(([, a], [, b]) => b.held - a.held || b.size - a.size)
        .map(([kind, sum]) => row(kind, sum)),
      row('total', total),
    ],
    { indent: '    ', right: [1, 2, 3, 4] },
  )
}

function kindText(mapping: Mapping): string {
  if (mapping.kind !== 'file')
    return mapping.shared && mapping.kind === 'anonymous' ? 'shared anonymous' : mapping.kind
  if (mapping.execute) return 'file, code'
  return mapping.write ? 'file, data' : 'file, read-only'
}

/** Bytes of a mapping that the image holds, and how many of those are known to be zero. */
function heldWithin(memory: Memory, mapping: Mapping): { held: number; zero: number } {
  let held = 0
  let zero = 0
  for (const extent of memory.within(mapping.start, mapping.end)) {
    held += extent.length
    if (extent.content.kind === 'zero') zero += extent.length
  }
  return { held, zero }
}

function mappingsText(process: Process): string {
  return columns(
    process.mappings.map(mapping => {
      const flags = `${mapping.read ? 'r' : '-'}${mapping.write ? 'w' : '-'}${mapping.execute ? 'x' : '-'}${mapping.shared ? 's' : 'p'}`
      const { held } = heldWithin(process.memory, mapping)
      const file = mapping.file
        ? `${mapping.file.path} +${hex(mapping.file.offset)}${mapping.file.deleted ? ' (deleted)' : ''}`
        : mapping.kind
      return [
        `${hex(mapping.start)}-${hex(mapping.end)}`,
        flags,
        bytesText(mapping.end - mapping.start),
        held > 0 ? bytesText(held) : '–',
        [file, ...mapping.advice].join(' '),
      ]
    }),
    { indent: '    ', right: [2, 3] },
  )
}

function filesText(process: Process, image: ProcessImage): string {
  return columns(
    process.files.map(file => [
      String(file.fd),
      descriptionText(image.descriptions.get(file.description), flags =>
        openFlagNames(flags, isas[image.isa]),
      ) + (file.closeOnExec ? ', close-on-exec' : ''),
    ]),
    { indent: '    ', right: [0] },
  )
}

function signalsText(process: Process, options: ProcessViewOptions): string {
  const rows = [...process.signalActions]
    .filter(([, action]) => action.handler !== 0n)
    .map(([signal, action]) => [
      signalName(signal),
      action.handler === 1n
        ? 'ignored'
        : `handler ${hex(action.handler)} ${styled('green', options.nameAddress(process, action.handler) ?? '')}`,
    ])
  const pending = process.pendingSignals.map(signal => [signalName(signal.signal), 'pending'])
  return columns([...rows, ...pending], { indent: '    ' })
}

function timersText(process: Process): string {
  const milliseconds = (nanoseconds: bigint) => durationText(Number(nanoseconds) / 1e6)
  const each = (remaining: bigint, interval: bigint) =>
    remaining === 0n
      ? 'disarmed'
      : `${milliseconds(remaining)} left${interval > 0n ? `, every ${milliseconds(interval)}` : ', once'}`
  return columns(
    [
      ...process.intervalTimers.map(timer => [
        `interval timer ${timer.which}`,
        each(timer.remaining, timer.interval),
      ]),
      ...process.posixTimers.map(timer => [
        `timer ${timer.id} on ${clockName(timer.clock)}`,
        `${each(timer.remaining, timer.interval)}, ${signalName(timer.signal)}`,
      ]),
    ],
    { indent: '    ' },
  )
}

/** The model as plain values for `--json`: memory as its extents with where they lie, nothing read. */
export function processImageJson(image: ProcessImage): object {
  const { raw: _, ...origin } = image.origin
  return {
    kind: 'process',
    ...image,
    origin,
    processes: image.processes.map(process => ({
      ...process,
      memory: process.memory.extents.map(extent => ({
        start: extent.address,
        end: extentEnd(extent),
        content: extent.content.kind,
        ...(extent.content.kind === 'slice'
          ? { file: extent.content.source.path, offset: extent.content.offset }
          : {}),
      })),
    })),
  }
}
