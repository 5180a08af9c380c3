/**
 * x87 extended-precision numbers (80 bits: sign, 15 bits of exponent biased by 16383, 64 bits of mantissa with its
 * leading one explicit) and IEEE doubles (11 bits biased by 1023, 52 bits of fraction). Intel SDM 1, 4.2.2.
 */

const MANTISSA = (1n << 64n) - 1n
const FRACTION = (1n << 52n) - 1n

/** The bits of the nearest double (ties to even); too large gives infinity, too small a denormal or zero. */
export function extendedToDouble(extended: bigint): bigint {
  const sign = (extended >> 79n) << 63n
  const exponent = Number((extended >> 64n) & 0x7fffn)
  const mantissa = extended & MANTISSA
  if (exponent === 0x7fff) {
    const fraction = (mantissa & (MANTISSA >> 1n)) >> 11n
    // A NaN whose payload lies below what a double holds must stay a NaN.
    const payload = fraction === 0n && (mantissa & (MANTISSA >> 1n)) !== 0n ? 1n << 51n : fraction
    return sign | (0x7ffn << 52n) | payload
  }
  if (mantissa === 0n) return sign
  // value = mantissa · 2^(scale); a double's smallest step is 2^-1074.
  const scale = (exponent === 0 ? 1 : exponent) - 16383 - 63
  const length = mantissa.toString(2).length
  const drop = Math.max(length - 53, -1074 - scale)
  const kept = drop > 0 ? roundShift(mantissa, BigInt(drop)) : mantissa << BigInt(-drop)
  // `kept` has at most 53 bits (54 after a carry) and counts units of 2^(scale + drop).
  const unit = scale + drop
  if (kept < 1n << 52n) return sign | kept
  const carried = kept >= 1n << 53n ? 1 : 0
  const biased = unit + carried + 1075
  if (biased >= 0x7ff) return sign | (0x7ffn << 52n)
  return sign | (BigInt(biased) << 52n) | ((carried ? kept >> 1n : kept) & FRACTION)
}

function roundShift(value: bigint, by: bigint): bigint {
  const half = 1n << (by - 1n)
  const rest = value & ((1n << by) - 1n)
  const kept = value >> by
  return rest > half || (rest === half && (kept & 1n) === 1n) ? kept + 1n : kept
}

/** Exact: every double is an extended number. */
export function doubleToExtended(double: bigint): bigint {
  const sign = ((double >> 63n) & 1n) << 79n
  const exponent = Number((double >> 52n) & 0x7ffn)
  const fraction = double & FRACTION
  if (exponent === 0x7ff) return sign | (0x7fffn << 64n) | (1n << 63n) | (fraction << 11n)
  if (exponent > 0) return sign | (BigInt(exponent - 1023 + 16383) << 64n) | (1n << 63n) | (fraction << 11n)
  if (fraction === 0n) return sign
  const length = fraction.toString(2).length
  return sign | (BigInt(length - 1 - 1074 + 16383) << 64n) | (fraction << BigInt(64 - length))
}

/** Top of the register stack: bits 11–13 of the status word. */
export const topOfStack = (status: number): number => (status >> 11) & 7

/** The tag word of FSTENV (2 bits a register: 0 valid, 3 empty) from FXSAVE's abridged one (a bit a register: valid). */
export function fullTags(valid: number): number {
  let tags = 0
  for (let i = 0; i < 8; i++) if (((valid >> i) & 1) === 0) tags |= 3 << (2 * i)
  return tags
}

/** The other way: zero and special count as valid. */
export function abridgedTags(tags: number): number {
  let valid = 0
  for (let i = 0; i < 8; i++) if (((tags >> (2 * i)) & 3) !== 3) valid |= 1 << i
  return valid
}
