/** Facts of every PC that adapters, views and checks share. Sources: Intel SDM 3, 11.5; 8254 data sheet; gem5 ticks. */

export const PS_PER_SECOND = 1_000_000_000_000n
/** Clock of the 8254, in Hz. */
export const PIT_HERTZ = 1_193_182n

/** The entries of the local vector table, in the order in which gem5 and QEMU keep them. */
export const lvtNames = ['timer', 'thermal', 'performance', 'lint0', 'lint1', 'error'] as const

/** log2 of what the divide configuration register (bits 0, 1 and 3) divides by: 0 … 7. */
export const apicDivideShift = (divide: number): number => ((((divide & 8) >> 1) | (divide & 3)) + 1) & 7

/** The highest vector that is set in eight words of 32, or 0. */
export function highestVector(words: readonly number[]): number {
  for (let i = words.length - 1; i >= 0; i--) if (words[i] !== 0) return 32 * i + 31 - Math.clz32(words[i]!)
  return 0
}
