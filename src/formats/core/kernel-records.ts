/**
 * What the kernel keeps once a process ⇄ the records `action`, `pending`, `intervalTimer`, `posixTimer`, `limit` and `credential`.
 * What the model does not say (a timer's thread) comes from the core that the image was read from.
 */
import { limitNames } from '../../isa/linux.js'
import type { PendingSignal, Process } from '../../model/process.js'
import { makeRecord, type NoteRecord, type RecordsByKind } from './private-notes.js'

type KernelState = Pick<
  Process,
  'signalActions' | 'pendingSignals' | 'intervalTimers' | 'posixTimers' | 'limits' | 'credentials'
>

/** In the order of the record's numbers, which are setitimer's. */
const INTERVAL_TIMERS = ['real', 'virtual', 'profiling'] as const

/** What the kernel kept for the whole process, from its records. */
export function readKernelState(records: RecordsByKind): KernelState {
  const all = (kind: string) => records.get(kind) ?? []
  return {
    signalActions: new Map(
      all('action').map(record => [
        record.number('signal'),
        {
          handler: record.big('handler'),
          flags: record.big('flags'),
          restorer: record.big('restorer'),
          mask: record.big('mask'),
        },
      ]),
    ),
    pendingSignals: pendingOf(records, 0),
    intervalTimers: all('intervalTimer').map(record => ({
      which: INTERVAL_TIMERS[record.number('which')] ?? 'real',
      remaining: record.big('remaining'),
      interval: record.big('interval'),
    })),
    posixTimers: all('posixTimer').map(record => ({
      id: record.number('id'),
      clock: record.number('clock'),
      signal: record.number('signal'),
      notify: record.number('notify'),
      value: record.big('value'),
      remaining: record.big('remaining'),
      interval: record.big('interval'),
      overrun: record.number('overrun'),
    })),
    limits: new Map(
      all('limit').map(record => [
        limitNames[record.number('resource')] ?? String(record.number('resource')),
        { soft: record.big('soft'), hard: record.big('hard') },
      ]),
    ),
    credentials: credentialsOf(all('credential')[0]),
  }
}

/** @param old those of the core that the image was read from. */
export function kernelRecords(process: Process, old: RecordsByKind): [string, readonly NoteRecord[]][] {
  const oldTimers = new Map(old.get('posixTimer')?.map(record => [record.number('id'), record]))
  return [
    [
      'action',
      [...process.signalActions].map(([signal, action]) => makeRecord('action', { signal, ...action })),
    ],
    [
      'pending',
      [{ tid: 0, pendingSignals: process.pendingSignals }, ...process.threads].flatMap(
        ({ tid, pendingSignals }) =>
          pendingSignals.map(pending => makeRecord('pending', { tid, ...pending })),
      ),
    ],
    [
      'intervalTimer',
      process.intervalTimers.map(timer =>
        makeRecord('intervalTimer', { ...timer, which: INTERVAL_TIMERS.indexOf(timer.which) }),
      ),
    ],
    [
      'posixTimer',
      process.posixTimers.map(timer => makeRecord('posixTimer', { ...timer }, oldTimers.get(timer.id))),
    ],
    [
      'limit',
      [...process.limits].map(([name, { soft, hard }]) => {
        const known = limitNames.indexOf(name)
        return makeRecord('limit', { resource: known < 0 ? Number(name) : known, soft, hard })
      }),
    ],
    ['credential', [old.get('credential')?.[0] ?? credentialRecord(process)]],
  ]
}

/** Signals pending for one thread, or with 0 for the process. */
export function pendingOf(records: RecordsByKind, tid: number): PendingSignal[] {
  return (records.get('pending') ?? [])
    .filter(record => record.number('tid') === tid)
    .map(record => ({ signal: record.number('signal'), info: record.bytes('info') }))
}

function credentialsOf(record: NoteRecord | undefined): Process['credentials'] {
  if (record === undefined) return undefined
  const groups = record.bytes('groups')
  const view = new DataView(groups.buffer, groups.byteOffset, groups.byteLength)
  return {
    uid: record.number('uid'),
    gid: record.number('gid'),
    effectiveUid: record.number('effectiveUid'),
    effectiveGid: record.number('effectiveGid'),
    groups: Array.from({ length: Math.floor(groups.length / 4) }, (_, i) => view.getUint32(i * 4, true)),
  }
}

function credentialRecord({ credentials }: Process): NoteRecord {
  const groups = new Uint8Array(4 * (credentials?.groups.length ?? 0))
  const view = new DataView(groups.buffer)
  for (const [i, group] of (credentials?.groups ?? []).entries()) view.setUint32(4 * i, group, true)
  return makeRecord('credential', {
    uid: credentials?.uid,
    effectiveUid: credentials?.effectiveUid,
    savedUid: credentials?.effectiveUid,
    fileSystemUid: credentials?.effectiveUid,
    gid: credentials?.gid,
    effectiveGid: credentials?.effectiveGid,
    savedGid: credentials?.effectiveGid,
    fileSystemGid: credentials?.effectiveGid,
    capabilities: credentials?.capabilities?.effective,
    groups,
  })
}
