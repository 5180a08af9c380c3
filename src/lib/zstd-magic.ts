/** How a zstd frame begins (RFC 8878, 3.1.1). */
const MAGIC = 0xfd2fb528

/** @param head the first bytes of a file. */
export function isZstdFrame(head: Uint8Array): boolean {
  return head.length >= 4 && new DataView(head.buffer, head.byteOffset).getUint32(0, true) === MAGIC
}
