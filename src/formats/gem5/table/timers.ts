/** 8254 and MC146818. Sources: gem5 src/dev/intel_8254_timer.cc, src/dev/mc146818.cc. */
import { PS_PER_SECOND } from '../../../isa/pc.js'
import type { MachineState, PitChannel } from '../../../model/machine.js'
import { type CompoundRow, type Row, row, rows } from '../../machine-table.js'
import { type Fields, integer, tickOf } from './common.js'

export const pitChannel = (n: number): CompoundRow<Fields> => ({
  about: `PIT channel ${n}: a 16-bit period and the ticks (2011: the tick) of its next event`,
  read(raw, { devices }) {
    const field = (key: string) => integer(raw, `pit.pit.counter${n}.${key}`)
    if (raw.string('pit', `pit.counter${n}.mode`) === undefined) return
    const channel = pitOf(devices)[n]!
    channel.reload = Number(field('initial_count') & 0xffffn) || 65536
    channel.mode = Number(field('mode') & 7n)
    // Never programmed: gem5 knows only low-then-high access.
    channel.access = field('initial_count') === 0n && field('period') === 0n ? 0 : 3
    channel.latchedCount = Number(field('latched_count') & 0xffffn)
    channel.countLatched = field('latch_on') ? 3 : 0
    channel.readHighNext = field('read_byte') !== 0n
    channel.writeHighNext = field('write_byte') !== 0n
    const left = raw.is2011
      ? field('event_tick') - integer(raw, 'globals.curTick')
      : field('event_tick_offset')
    channel.remaining = field('period') > 0n && left > 0n ? left : undefined
  },
  write({ devices }, raw) {
    const channel = devices.pit?.channels[n]
    if (channel === undefined) return
    const set = (key: string, value: number | bigint) => raw.set(`pit.pit.counter${n}.${key}`, BigInt(value))
    const { reload, mode, remaining } = channel
    const periodic = mode === 2 || mode === 3
    set('initial_count', reload & 0xffff)
    set('mode', gem5Modes.has(mode) ? mode : 0)
    set('latched_count', channel.latchedCount)
    set('latch_on', channel.countLatched ? 1 : 0)
    set('read_byte', channel.readHighNext ? 1 : 0)
    set('write_byte', channel.writeHighNext ? 1 : 0)
    set('output_high', 0)
    set('period', remaining === undefined ? 0 : periodic ? reload - 1 : reload & 0xffff)
    const now = tickOf(raw, devices)
    if (raw.is2011) set('event_tick', remaining === undefined ? 0n : now + remaining)
    else set('event_tick_offset', remaining ?? 0n)
  },
})
/** Others make gem5 panic when they are programmed. */
export const gem5Modes: ReadonlySet<number> = new Set([0, 2, 3])

function pitOf(devices: MachineState['devices']): PitChannel[] {
  devices.pit ??= {
    channels: Array.from({ length: 3 }, () => ({
      reload: 65536,
      mode: 3,
      bcd: false,
      gate: true,
      access: 3,
      remaining: undefined,
      countLatched: 0,
      latchedCount: 0,
      statusLatched: false,
      latchedStatus: 0,
      readHighNext: false,
      writeHighNext: false,
      writeLatch: 0,
    })),
  }
  return devices.pit.channels
}

const PERIODIC_INTERRUPT = 0x40
export const rtc: Row<Fields>[] = [
  ...rows<Fields>(
    128,
    i => `cmos.regs[${i}]`,
    i => `rtc.cmos.${i}`,
  ),
  row('cmos.address', 'rtc.index'),
  {
    about: 'the clock bytes and registers A and B are kept apart; the update and the periodic event',
    read(raw, { devices }) {
      const { rtc } = devices
      if (rtc === undefined) return
      for (let i = 0; i < 10; i++) rtc.cmos[i] = Number(integer(raw, `cmos.rtc.clock_data[${i}]`) & 0xffn)
      rtc.cmos[10] = Number(integer(raw, 'cmos.rtc.stat_regA') & 0xffn)
      rtc.cmos[11] = Number(integer(raw, 'cmos.rtc.stat_regB') & 0xffn)
      rtc.nextUpdate = integer(raw, 'cmos.rtcClockTickOffset') || undefined
      if (rtc.cmos[11]! & PERIODIC_INTERRUPT)
        rtc.nextPeriodic = integer(raw, 'cmos.rtcTimerInterruptTickOffset') || undefined
    },
    write({ devices }, raw) {
      const { rtc } = devices
      if (rtc === undefined) return
      for (let i = 0; i < 10; i++) raw.set(`cmos.rtc.clock_data[${i}]`, BigInt(rtc.cmos[i]!))
      raw.set('cmos.rtc.stat_regA', BigInt(rtc.cmos[10]! & 0x7f))
      raw.set('cmos.rtc.stat_regB', BigInt(rtc.cmos[11]!))
      raw.set('cmos.rtcClockTickOffset', rtc.nextUpdate ?? PS_PER_SECOND / 2n)
      if (rtc.nextPeriodic !== undefined) raw.set('cmos.rtcTimerInterruptTickOffset', rtc.nextPeriodic)
    },
  },
]
