/**
 * The adapter's word about the next interrupt of the PIT, against what QEMU does: its timer of channel 0 looks at the
 * output, and then sets itself to the next change (pit_get_out, pit_get_next_transition_time in hw/timer/i8254_common.c).
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readTable } from '../../../src/formats/machine-table.js'
import { QemuFields } from '../../../src/formats/qemu/fields.js'
import { patchDevices } from '../../../src/formats/qemu/machine.js'
import { openStream } from '../../../src/formats/qemu/read-stream.js'
import type { QemuStream } from '../../../src/formats/qemu/stream.js'
import { virtualNow } from '../../../src/formats/qemu/table/clock.js'
import { qemuTable } from '../../../src/formats/qemu/table.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { qemuSample } from './samples.js'

const HERTZ = 1_193_182n
const SECOND = 1_000_000_000n
const CHANNEL = 'i8254/channels[0]'

interface Channel {
  readonly mode: number
  readonly count: bigint
  readonly loaded: bigint
  readonly next: bigint
}

const clocksAt = ({ loaded }: Channel, now: bigint) => ((now - loaded) * HERTZ) / SECOND

function output(channel: Channel, now: bigint): boolean {
  const clocks = clocksAt(channel, now)
  if (channel.mode === 2) return clocks !== 0n && clocks % channel.count === 0n
  return clocks % channel.count < (channel.count + 1n) / 2n
}

function nextChange(channel: Channel, now: bigint): bigint {
  const { mode, count, loaded } = channel
  const inRound = clocksAt(channel, now) % count
  const round = clocksAt(channel, now) - inRound
  const half = (count + 1n) / 2n
  const atEnd = mode === 2 && inRound === 0n && round !== 0n
  const clocks = mode === 2 ? round + count + (atEnd ? 0n : 1n) : round + (inRound < half ? half : count)
  const next = loaded + (clocks * SECOND) / HERTZ
  return next > now ? next : now + 1n
}

/** Runs the timer until `end`, or until the output has risen; when it last looked, and what it saw. */
function run(channel: Channel, end: bigint, was: boolean, untilRise: boolean) {
  let { next } = channel
  let level = was
  for (;;) {
    if (next > end) return { next, level, risen: undefined }
    const now = next
    const out = output(channel, now)
    next = nextChange(channel, now)
    if (out && !level && untilRise) return { next, level: out, risen: now }
    level = out
  }
}

function fieldsWith(channel: Channel, stream: QemuStream): QemuFields {
  const fields = QemuFields.of(stream)
  fields.set(`${CHANNEL}.mode`, BigInt(channel.mode))
  fields.set(`${CHANNEL}.rw_mode`, 3n)
  fields.set(`${CHANNEL}.gate`, 1n)
  fields.set(`${CHANNEL}.count`, channel.count)
  fields.set(`${CHANNEL}.count_load_time`, channel.loaded)
  fields.set(`${CHANNEL}.next_transition_time`, channel.next)
  return fields
}

/** Anywhere within the first rounds, most often near the end of one, with the timer a little behind or not. */
const moments = fc.record({
  mode: fc.constantFrom(2, 3),
  count: fc.bigInt({ min: 100n, max: 65536n }),
  round: fc.bigInt({ min: 0n, max: 5n }),
  beside: fc.oneof(fc.bigInt({ min: -3000n, max: 3000n }), fc.bigInt({ min: 0n, max: 50_000_000n })),
  late: fc.constantFrom(0n, 0n, 1n, 400n),
})

test('the time left is that to the next interrupt, and the machine written from it interrupts then', () => {
  const stream = openStream(qemuSample('timer', temporaryFolder()))
  const now = virtualNow(QemuFields.of(stream))
  fc.assert(
    fc.property(moments, ({ mode, count, round, beside, late }) => {
      const loaded = now - (round * count * SECOND) / HERTZ - beside
      if (loaded > now) return
      const fresh = { mode, count, loaded, next: -1n }
      const begun = { ...fresh, next: nextChange(fresh, loaded) }
      const seen = run(begun, now - late, mode === 3, false)
      const channel = { ...begun, next: seen.next }
      if (seen.level && seen.next <= now) return // QEMU has still to let the output fall, and may be too late for it
      const { risen } = run(channel, now + 200_000_000n, seen.level, true)
      const expected = risen! > now ? risen! - now : 1n

      const state = readTable(qemuTable, fieldsWith(channel, stream))
      const left = state.devices.pit!.channels[0]!.remaining! / 1000n
      expect(Number(left - expected)).toBeGreaterThanOrEqual(-1)
      expect(Number(left - expected)).toBeLessThanOrEqual(1)

      const written = QemuFields.of(stream)
      patchDevices(state, written)
      const at = virtualNow(written)
      const again = {
        mode,
        count,
        loaded: written.integer(`${CHANNEL}.count_load_time`),
        next: written.integer(`${CHANNEL}.next_transition_time`),
      }
      const rise = run(again, at + 200_000_000n, seen.level, true).risen! - at
      expect(Number(rise - left)).toBeGreaterThanOrEqual(-1)
      expect(Number(rise - left)).toBeLessThanOrEqual(1)
    }),
    { numRuns: 300 },
  )
})
