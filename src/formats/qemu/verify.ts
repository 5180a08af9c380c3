/** What QEMU's loader takes as it comes: fields of a stream that follow from others. */
import { apicDivideShift } from '../../isa/pc.js'
import { readTable } from '../machine-table.js'
import { readCaptureRecord } from './capture-record.js'
import { QemuFields } from './fields.js'
import { hiddenFlags } from './hidden-flags.js'
import { openStream } from './read-stream.js'
import { qemuTable, virtualNow } from './table.js'

/** The mode bits; CPL is worked out anew when the stream is loaded. */
const MODE_FLAGS = 0xcff0n

/** The problems found; none when it is sound. @throws UnreadableError when it cannot be read at all. */
export function verifyQemu(path: string): string[] {
  const stream = openStream(path)
  try {
    const fields = QemuFields.of(stream, readCaptureRecord(path).icount)
    const state = readTable(qemuTable, fields)
    const problems: string[] = []
    const flags = fields.integer('cpu/env.hflags')
    const expected = hiddenFlags(state, flags)
    if ((flags & MODE_FLAGS) !== (expected & MODE_FLAGS))
      problems.push(
        `hflags are 0x${flags.toString(16)}, the registers make them 0x${expected.toString(16)}: the translator would run in another mode`,
      )
    if (fields.hasDevice('apic')) {
      const register = Number(fields.integer('apic/divide_conf'))
      const shift = apicDivideShift(register)
      const found = Number(fields.integer('apic/count_shift'))
      // After a reset both are 0, and nobody has written the register yet.
      if (found !== shift && (found !== 0 || register !== 0))
        problems.push(`the APIC timer divides by ${2 ** found}, its register says ${2 ** shift}`)
      const expiry = fields.integer('apic/timer_expiry')
      if (expiry !== -1n && expiry + LATE_NS < virtualNow(fields))
        problems.push(`the APIC timer was due ${virtualNow(fields) - expiry} ns ago`)
    }
    return problems
  } finally {
    stream.source.close()
  }
}
/** A busy host serves a timer late by some milliseconds. */
const LATE_NS = 1_000_000_000n
