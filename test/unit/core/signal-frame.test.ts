/** Signal frames as the kernel reads them, at offsets taken from its headers. */
import { describe, expect, test } from 'vitest'
import { isas } from '../../../src/isa/isas.js'
import { signalFrames } from '../../../src/isa/signal-frame.js'
import type { Thread } from '../../../src/model/process.js'
import { someThread } from '../../helpers/process-image.js'

const word = (bytes: Uint8Array, offset: number) =>
  new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(offset, true)

const fresh = (isa: 'x86-64' | 'aarch64'): Thread => {
  const registers = isas[isa].freshRegisters(
    { programCounter: 0x401234n, stackPointer: 0x7000f0n, framePointer: 0x700100n, threadPointer: 0x9000n },
    { rounding: 'up', flushToZero: true },
  )
  return someThread({
    registers,
    signalMask: 0x8040n,
    alternateStack: { address: 0x50000n, size: 8192n, flags: 1 },
  })
}

describe('a signal frame', () => {
  test('of x86-64 holds registers, mask and FXSAVE where rt_sigreturn looks for them', () => {
    const address = 0x6f0000n
    const { bytes, context } = signalFrames['x86-64'].make(fresh('x86-64'), address)
    expect(context).toBe(0)
    expect(word(bytes, 0)).toBe(6n) // UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
    expect([word(bytes, 16), bytes[24], word(bytes, 32)]).toEqual([0x50000n, 1, 8192n]) // uc_stack
    expect(word(bytes, 40 + 15 * 8)).toBe(0x7000f0n) // rsp
    expect(word(bytes, 40 + 16 * 8)).toBe(0x401234n) // rip
    expect([bytes[40 + 144], bytes[40 + 150]]).toEqual([0x33, 0x2b]) // cs, ss: with zeros the task would fault
    expect(word(bytes, 296)).toBe(0x8040n) // uc_sigmask
    const state = Number(word(bytes, 40 + 184) - address) // fpstate
    expect((address + BigInt(state)) % 64n).toBe(0n)
    expect(new DataView(bytes.buffer).getUint32(state + 24, true)).toBe(0x1f80 | (2 << 13) | 0x8000) // MXCSR
    expect(bytes.length).toBe(state + 512)
  })

  test('of x86-64 with AVX in use says so in both magic words and the feature bits', () => {
    const thread = fresh('x86-64')
    const vector = thread.registers.vector
    if (vector?.isa !== 'x86-64') throw new Error('no vector state')
    const upper = new Uint8Array(256).fill(0xab)
    const registers = {
      general: thread.registers.general,
      vector: { ...vector, inUse: 7n, components: new Map([[2, upper]]) },
    }
    const { bytes } = signalFrames['x86-64'].make({ ...thread, registers }, 0x6f0000n)
    const area = bytes.subarray(448)
    const view = new DataView(area.buffer, area.byteOffset, area.length)
    expect(word(bytes, 0)).toBe(7n) // and UC_FP_XSTATE
    expect(view.getUint32(464, true)).toBe(0x46505853)
    expect([view.getBigUint64(472, true), view.getBigUint64(512, true)]).toEqual([7n, 7n])
    const size = view.getUint32(480, true)
    expect([view.getUint32(468, true), view.getUint32(size, true)]).toEqual([size + 4, 0x46505845])
    expect(area.subarray(576, 832)).toEqual(upper)
  })

  test('of aarch64 holds registers, mask and FPSIMD where rt_sigreturn looks for them', () => {
    const { bytes, context } = signalFrames.aarch64.make(fresh('aarch64'), 0n)
    expect(context).toBe(128)
    expect(word(bytes, 128 + 40)).toBe(0x8040n)
    const machine = 128 + 176 // uc_mcontext
    expect(word(bytes, machine + 8 + 29 * 8)).toBe(0x700100n) // x29
    expect([word(bytes, machine + 256), word(bytes, machine + 264)]).toEqual([0x7000f0n, 0x401234n]) // sp, pc
    const record = new DataView(bytes.buffer, bytes.byteOffset + machine + 288)
    expect([record.getUint32(0, true), record.getUint32(4, true)]).toEqual([0x46508001, 528])
    expect(record.getUint32(12, true)).toBe((1 << 22) | (1 << 24)) // FPCR: up, flush to zero
    expect(record.getBigUint64(528, true)).toBe(0n) // the end
    expect(bytes.length % 16).toBe(0)
  })
})
