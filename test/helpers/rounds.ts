/**
 * How often a repeated test repeats: `quick` in the ordinary run (CI has minutes), `full` under IMAGO_FULL=1,
 * which is how the figures in the documentation were made. IMAGO_ROUNDS takes another number instead of `full`.
 */
export function rounds(full: number, quick: number): number {
  return process.env.IMAGO_FULL === '1' ? Number(process.env.IMAGO_ROUNDS ?? full) : quick
}
