/**
 * The 512-byte FXSAVE64 image (Intel SDM 1, table 10-3):
 *
 *     0 FCW u16   2 FSW u16   4 abridged tags u8   6 FOP u16   8 FIP u64   16 FDP u64   24 MXCSR u32   28 mask u32
 *    32 ST0–ST7, 16 bytes each of which 10 count, in the order of the stack
 *   160 XMM0–XMM15, 16 bytes each      416 reserved
 */
import { topOfStack } from './x87.js'

const FXSAVE_BYTES = 512
/** MXCSR bits that x86-64 CPUs with DAZ have. */
const MXCSR_MASK = 0xffff

export interface FpuState {
  x87: {
    control: number
    /** With the top of stack in bits 11–13. */
    status: number
    valid: number
    opcode: number
    instruction: bigint
    data: bigint
    /** Physical registers, 80 bits each. */
    registers: bigint[]
  }
  mxcsr: number
  xmm: bigint[]
}

/** @param image at least 416 bytes. */
export function decodeFxsave(image: Uint8Array): FpuState {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength)
  const status = view.getUint16(2, true)
  const registers = new Array<bigint>(8).fill(0n)
  for (let i = 0; i < 8; i++)
    registers[(topOfStack(status) + i) & 7] =
      (BigInt(view.getUint16(40 + 16 * i, true)) << 64n) | view.getBigUint64(32 + 16 * i, true)
  return {
    x87: {
      control: view.getUint16(0, true),
      status,
      valid: view.getUint8(4),
      opcode: view.getUint16(6, true),
      instruction: view.getBigUint64(8, true),
      data: view.getBigUint64(16, true),
      registers,
    },
    mxcsr: view.getUint32(24, true),
    xmm: Array.from(
      { length: 16 },
      (_, i) => (view.getBigUint64(168 + 16 * i, true) << 64n) | view.getBigUint64(160 + 16 * i, true),
    ),
  }
}

/** @param template bytes that the state does not define (reserved, padding, mask) are taken from here when given. */
export function encodeFxsave(state: FpuState, template?: Uint8Array): Uint8Array {
  const image = new Uint8Array(FXSAVE_BYTES)
  const view = new DataView(image.buffer)
  if (template) image.set(template.subarray(0, FXSAVE_BYTES))
  else view.setUint32(28, MXCSR_MASK, true)
  const { x87 } = state
  view.setUint16(0, x87.control, true)
  view.setUint16(2, x87.status, true)
  view.setUint8(4, x87.valid)
  view.setUint16(6, x87.opcode, true)
  view.setBigUint64(8, x87.instruction, true)
  view.setBigUint64(16, x87.data, true)
  view.setUint32(24, state.mxcsr, true)
  for (let i = 0; i < 8; i++) {
    const register = x87.registers[(topOfStack(x87.status) + i) & 7]!
    view.setBigUint64(32 + 16 * i, BigInt.asUintN(64, register), true)
    view.setUint16(40 + 16 * i, Number(register >> 64n), true)
  }
  for (const [i, value] of state.xmm.entries()) {
    view.setBigUint64(160 + 16 * i, BigInt.asUintN(64, value), true)
    view.setBigUint64(168 + 16 * i, value >> 64n, true)
  }
  return image
}
