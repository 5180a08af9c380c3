/** Damage by seed: flipped, overwritten, cut, doubled and moved bytes. */
export function mutate(original: Buffer, seed: number): Buffer {
  let state = seed * 2654435761 + 1
  const next = (below: number) => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 3266489917) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  let bytes = Buffer.from(original)
  for (let count = 1 + next(4); count > 0; count--) {
    const at = next(bytes.length)
    switch (next(6)) {
      case 0:
        bytes[at] = bytes[at]! ^ (1 << next(8))
        break
      case 1:
        bytes[at] = next(256)
        break
      case 2:
        bytes = bytes.subarray(0, at)
        break
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + next(200))])
        break
      case 4:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          original.subarray(next(original.length)).subarray(0, next(300)),
          bytes.subarray(at),
        ])
        break
      default:
        bytes.fill(next(2) ? 0x39 : 0xff, at, Math.min(bytes.length, at + next(24)))
    }
    if (bytes.length === 0) return bytes
  }
  return bytes
}
