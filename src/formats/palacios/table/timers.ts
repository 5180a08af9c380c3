/** 8254, and the speaker bit that Palacios keeps with it. Source: Palacios devices/8254.c. */
import { PIT_HERTZ, PS_PER_SECOND } from '../../../isa/pc.js'
import type { MachineState, PitChannel } from '../../../model/machine.js'
import { type CompoundRow, type Row, row } from '../../machine-table.js'
import type { PalaciosFields } from '../fields.js'

type Fields = PalaciosFields

const RUNNING = 2n
export const pitChannel = (n: number): Row<Fields>[] => {
  const field = (name: string) => `pit/PIT_CH${n}_${name}`
  return [
    row(field('OP_MODE'), `pit.channels.${n}.mode`, {
      read: raw => Number(raw & 7n),
      write: mode => BigInt(mode as number),
    }),
    row(field('LATCH_VALUE'), `pit.channels.${n}.latchedCount`),
    row(field('READ_STATE'), `pit.channels.${n}.readHighNext`),
    {
      about: `PIT channel ${n}: current count instead of time left`,
      read(raw, { devices }) {
        const channel = devices.pit?.channels[n]
        if (channel === undefined) return
        channel.reload = Number(raw.integer(field('RELOAD_VALUE'))) || 65536
        channel.access = Number(raw.integer(field('ACCESS_MODE')) & 3n)
        channel.writeHighNext = raw.integer(field('ACCESS_STATE')) === 2n
        channel.countLatched = raw.integer(field('LATCH_STATE')) === 0n ? 0 : channel.access
        channel.gate = (raw.integer(field('PINS')) & 2n) !== 0n
        const count = raw.integer(field('COUNTER')) || 65536n
        channel.remaining =
          raw.integer(field('RUN_STATE')) === RUNNING
            ? (count * PS_PER_SECOND + PIT_HERTZ - 1n) / PIT_HERTZ
            : undefined
      },
      write({ devices }, raw) {
        const channel: PitChannel | undefined = devices.pit?.channels[n]
        if (channel === undefined) return
        raw.set(field('RELOAD_VALUE'), BigInt(channel.reload & 0xffff))
        raw.set(field('ACCESS_MODE'), BigInt(channel.access))
        raw.set(field('ACCESS_STATE'), channel.writeHighNext ? 2n : 0n)
        raw.set(field('LATCH_STATE'), channel.countLatched ? 1n : 0n)
        raw.set(field('PINS'), (raw.integer(field('PINS')) & ~2n) | (channel.gate ? 2n : 0n))
        raw.set(field('RUN_STATE'), channel.remaining === undefined ? 0n : RUNNING)
        const clocks = ((channel.remaining ?? 0n) * PIT_HERTZ) / PS_PER_SECOND
        raw.set(field('COUNTER'), channel.remaining === undefined ? 0n : clocks > 0n ? clocks & 0xffffn : 1n)
      },
    },
  ]
}

export const speaker: CompoundRow<Fields> = {
  about: 'the speaker bit of port 0x61 lives in the PIT',
  read(raw, { devices }: MachineState) {
    if (raw.has('pit')) devices.speaker = { data: (raw.integer('pit/PIT_SPEAKER') & 2n) !== 0n }
  },
  write({ devices }, raw) {
    if (devices.speaker) raw.set('pit/PIT_SPEAKER', devices.speaker.data ? 2n : 0n)
  },
}
