/** 8254 and MC146818. Sources: QEMU hw/timer/i8254_common.c, hw/rtc/mc146818rtc.c. */
import { PIT_HERTZ } from '../../../isa/pc.js'
import type { PitChannel } from '../../../model/machine.js'
import { type Row, row } from '../../machine-table.js'
import { bits, type Fields, NS_PER_SECOND, PS, toNs, virtualNow } from './clock.js'

const isPeriodic = (mode: number) => mode === 2 || mode === 3

export const pitChannel = (n: number): Row<Fields>[] => {
  const field = (name: string) => `i8254/channels[${n}].${name}`
  const path = (name: string) => `pit.channels.${n}.${name}`
  return [
    row(field('count'), path('reload')),
    row(field('latched_count'), path('latchedCount')),
    row(field('count_latched'), path('countLatched'), bits(3)),
    row(field('status_latched'), path('statusLatched')),
    row(field('status'), path('latchedStatus')),
    row(field('rw_mode'), path('access'), bits(3)),
    row(field('mode'), path('mode'), bits(7)),
    row(field('bcd'), path('bcd')),
    row(field('gate'), path('gate')),
    {
      about: `PIT channel ${n}: which byte is next; when the count was loaded, and the next edge of its output`,
      read(raw, { devices }) {
        const channel = devices.pit?.channels[n]
        if (channel === undefined) return
        channel.readHighNext = raw.integer(field('read_state')) === 4n
        channel.writeHighNext = raw.integer(field('write_state')) === 4n
        channel.writeLatch = channel.writeHighNext ? Number(raw.integer(field('write_latch'))) : 0
        // A channel that was never programmed, or whose gate is low, does not count.
        const counts = channel.access !== 0 && channel.gate && channel.reload > 0
        const loaded = raw.integer(field('count_load_time'))
        // What the timer of channel 0 has still to do has not happened, though its time may have come.
        const next = n === 0 ? raw.integer(field('next_transition_time')) : -1n
        const now = virtualNow(raw)
        const seen = next >= 0n && next <= now ? next - 1n : now
        channel.remaining = counts ? remainingOf(channel, seen - loaded, now - loaded) : undefined
      },
      write({ devices }, raw) {
        const channel = devices.pit?.channels[n]
        if (channel === undefined) return
        const { access, remaining } = channel
        const now = virtualNow(raw)
        // States of a byte: 1 low, 2 high, 3 low of a word, 4 high of a word (RW_STATE_* of i8254).
        raw.set(field('read_state'), BigInt(access === 3 ? (channel.readHighNext ? 4 : 3) : access))
        raw.set(field('write_state'), BigInt(access === 3 ? (channel.writeHighNext ? 4 : 3) : access))
        raw.set(field('write_latch'), BigInt(channel.writeLatch))
        const loaded =
          remaining === undefined ? now - 10n * NS_PER_SECOND : now + toNs(remaining) - riseAfter(channel, 1n)
        raw.set(field('count_load_time'), loaded)
        if (n !== 0) return
        const edge = remaining === undefined ? -1n : nextEdge(channel, loaded, now)
        raw.set(field('next_transition_time'), edge)
        raw.set(`${field('next_transition_time')}#2`, edge)
        raw.set('i8254/channels[0].irq_disabled', 0n)
      },
    },
  ]
}

const clocksToNs = (clocks: bigint) => (clocks * NS_PER_SECOND) / PIT_HERTZ

/**
 * When the output rises for the nth time (QEMU then interrupts), in ns after the count was loaded. In mode 2 that is a
 * clock after the end of the count, in the others the ns in which it ends: QEMU looks once more when it came too early.
 */
function riseAfter({ mode, reload }: PitChannel, round: bigint): bigint {
  const clocks = round * BigInt(reload)
  return mode === 2 ? clocksToNs(clocks + 1n) : (clocks * NS_PER_SECOND + PIT_HERTZ - 1n) / PIT_HERTZ
}

/** Time to the next rise, in ps: QEMU last looked `seen` ns after loading, and it is `elapsed` ns now. Undefined when there is none. */
function remainingOf(channel: PitChannel, seen: bigint, elapsed: bigint): bigint | undefined {
  const ended = seen < 0n ? 0n : (seen * PIT_HERTZ) / NS_PER_SECOND / BigInt(channel.reload)
  const risen = ended > 0n && riseAfter(channel, ended) > seen ? ended - 1n : ended
  if (!isPeriodic(channel.mode) && risen > 0n) return undefined
  const left = riseAfter(channel, risen + 1n) - elapsed
  return (left > 0n ? left : 1n) * PS
}

/** When the output of channel 0 changes next: it falls at the end of the count in mode 2, in its middle in mode 3. */
function nextEdge(channel: PitChannel, loaded: bigint, now: bigint): bigint {
  const { mode, reload } = channel
  const rise = loaded + riseAfter(channel, 1n)
  if (!isPeriodic(mode)) return rise
  const fall = loaded + clocksToNs(BigInt(mode === 2 ? reload : (reload + 1) >> 1))
  return fall >= now ? fall : rise
}

const CLOCK_BYTES = 10
const REGISTER_C = 12
export const rtc: Row<Fields>[] = [
  row('mc146818rtc/cmos_index', 'rtc.index'),
  {
    about:
      'CMOS: the clock itself follows the host (or -rtc), so its bytes and flags stay those of the template',
    read(raw, { devices }) {
      const bytes = raw.get('mc146818rtc/cmos_data')
      if (devices.rtc && bytes instanceof Uint8Array) devices.rtc.cmos = [...bytes]
    },
    write({ devices }, raw) {
      const old = raw.get('mc146818rtc/cmos_data')
      if (devices.rtc === undefined || !(old instanceof Uint8Array)) return
      raw.set(
        'mc146818rtc/cmos_data',
        Uint8Array.from(devices.rtc.cmos, (byte, i) =>
          i < CLOCK_BYTES || i === REGISTER_C ? old[i]! : byte,
        ),
      )
    },
  },
]
