/**
 * Limits on what an image may claim, checked before anything is allocated or mapped.
 * Each is far above what real images hold and far below what would hurt the host.
 */
export const limits = {
  /** Entries of one page map, segments of one core. */
  memoryRanges: 16 * 1024 * 1024,
  /** Bytes of one protobuf message or note. */
  recordBytes: 256 * 1024 * 1024,
  threads: 1_000_000,
  processes: 4_000_000,
  openFiles: 16 * 1024 * 1024,
  /** Bytes of one line of a text format. */
  lineBytes: 64 * 1024 * 1024,
  /** User address space of both ISAs ends at or below this. */
  userAddressEnd: 1n << 56n,
} as const
