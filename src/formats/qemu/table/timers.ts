/** 8254 and MC146818. Sources: QEMU hw/timer/i8254_common.c, hw/rtc/mc146818rtc.c. */
import { PIT_HERTZ } from '../../../isa/pc.js'
import type { PitChannel } from '../../../model/machine.js'
import { type Row, row } from '../../machine-table.js'
import { bits, type Fields, NS_PER_SECOND, PS, toNs, virtualNow } from './clock.js'

/** Clocks of the PIT in ns, rounded up to the ns at which QEMU has counted them. */
const clocksToNs = (clocks: bigint) => (clocks * NS_PER_SECOND + PIT_HERTZ - 1n) / PIT_HERTZ
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
        const counts = channel.access !== 0 && channel.gate
        channel.remaining = counts
          ? remainingOf(channel, virtualNow(raw) - raw.integer(field('count_load_time')))
          : undefined
      },
      write({ devices }, raw) {
        const channel = devices.pit?.channels[n]
        if (channel === undefined) return
        const { access, remaining, reload, mode } = channel
        const now = virtualNow(raw)
        // States of a byte: 1 low, 2 high, 3 low of a word, 4 high of a word (RW_STATE_* of i8254).
        raw.set(field('read_state'), BigInt(access === 3 ? (channel.readHighNext ? 4 : 3) : access))
        raw.set(field('write_state'), BigInt(access === 3 ? (channel.writeHighNext ? 4 : 3) : access))
        raw.set(field('write_latch'), BigInt(channel.writeLatch))
        const period = clocksToNs(BigInt(reload))
        const loaded = remaining === undefined ? now - 10n * NS_PER_SECOND : now + toNs(remaining) - period
        raw.set(field('count_load_time'), loaded)
        if (n !== 0) return
        const edge = remaining === undefined ? -1n : nextEdge(reload, mode, loaded, now)
        raw.set(field('next_transition_time'), edge)
        raw.set(`${field('next_transition_time')}#2`, edge)
        raw.set('i8254/channels[0].irq_disabled', 0n)
      },
    },
  ]
}

/** Time to the end of this period, or of the count; undefined when that is over. */
function remainingOf({ mode, reload }: PitChannel, elapsed: bigint): bigint | undefined {
  const count = BigInt(reload)
  if (elapsed < 0n) return (clocksToNs(count) - elapsed) * PS
  const rounds = (elapsed * PIT_HERTZ) / NS_PER_SECOND / count
  if (!isPeriodic(mode)) return rounds > 0n ? undefined : (clocksToNs(count) - elapsed) * PS
  const left = clocksToNs((rounds + 1n) * count) - elapsed
  return (left > 0n ? left : 1n) * PS
}

/** When the output of channel 0 changes next: mode 2 is low for the last clock, mode 3 for the second half. */
function nextEdge(reload: number, mode: number, loaded: bigint, now: bigint): bigint {
  const end = loaded + clocksToNs(BigInt(reload))
  if (!isPeriodic(mode)) return end
  const middle = loaded + clocksToNs(BigInt(mode === 2 ? reload - 1 : (reload + 1) >> 1))
  return middle > now ? middle : end > now ? end : now + 1n
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
