/**
 * Where the components of an XSAVE area lie (Intel SDM 1, 13.4.3; CPUID leaf 0xD). The legacy area and the header, 576
 * bytes, lie the same everywhere; the rest is each CPU's own choice: AMD leaves out the hole of MPX, so that its AVX-512
 * registers lie 256 bytes lower than Intel's. Images, and frames of signals, have Intel's offsets.
 *
 *   component   2 AVX (upper halves of YMM)   5 opmask   6 upper halves of ZMM0–15   7 ZMM16–31
 */

export interface XsaveComponent {
  readonly offset: number
  readonly size: number
}
export type XsaveLayout = ReadonlyMap<number, XsaveComponent>

export const STANDARD_XSAVE: XsaveLayout = new Map([
  [2, { offset: 576, size: 256 }],
  [5, { offset: 1088, size: 64 }],
  [6, { offset: 1152, size: 512 }],
  [7, { offset: 1664, size: 1024 }],
])
export const XSAVE_SIZE = 4096
/** Legacy area and header. */
const COMMON = 576

/** The area with each component moved to where `to` has it; one that `to` lacks is left out. */
export function rearrangeXsave(area: Uint8Array, from: XsaveLayout, to: XsaveLayout): Uint8Array {
  const moved = new Uint8Array(XSAVE_SIZE)
  moved.set(area.subarray(0, COMMON))
  for (const [number, { offset, size }] of from) {
    const target = to.get(number)
    if (target !== undefined && target.size === size && target.offset + size <= XSAVE_SIZE)
      moved.set(area.subarray(offset, offset + size), target.offset)
  }
  return moved
}
