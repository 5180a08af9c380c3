/**
 * How a number or a byte string stands in readable JSON: hexadecimal, flag names, socket words, addresses, device
 * numbers. The names and the order of flags are those of CRIU's own image tool, so that scripts go on working.
 */

export type Display =
  /** `0x1f`; also everything below a message with this mark. */
  | { readonly kind: 'hexadecimal' }
  /** `A | B | 0x40`: names of bits in this order, the rest in hexadecimal. */
  | { readonly kind: 'flags'; readonly bits: ReadonlyArray<readonly [name: string, bits: number]> }
  /** One word a value; others stay numbers. */
  | { readonly kind: 'words'; readonly words: Readonly<Record<number, string>> }
  /** `10.0.0.1` or `::1`: one or four 32-bit words in network order. */
  | { readonly kind: 'ipAddress' }
  /** `major:minor` in the kernel's form (20 bits of minor). */
  | { readonly kind: 'device' }
  /** `major:minor` in the C library's form. */
  | { readonly kind: 'oldDevice' }
  /** Bytes as quoted-printable instead of base64: names of unix sockets. */
  | { readonly kind: 'quotedPrintable' }

export const hexadecimal: Display = { kind: 'hexadecimal' }
export const ipAddress: Display = { kind: 'ipAddress' }
export const device: Display = { kind: 'device' }
export const oldDevice: Display = { kind: 'oldDevice' }
export const quotedPrintable: Display = { kind: 'quotedPrintable' }

const flags = (bits: Readonly<Record<string, number>>): Display => ({
  kind: 'flags',
  bits: Object.entries(bits),
})
const words = (table: Readonly<Record<number, string>>): Display => ({ kind: 'words', words: table })

export const mappingProtection = flags({ PROT_READ: 0x1, PROT_WRITE: 0x2, PROT_EXEC: 0x4 })

export const mappingFlags = flags({
  MAP_SHARED: 0x1,
  MAP_PRIVATE: 0x2,
  MAP_DROPPABLE: 0x8,
  MAP_ANON: 0x20,
  MAP_GROWSDOWN: 0x100,
})

/** CRIU's own marks of a mapping. */
export const VmaStatus = {
  VMA_AREA_NONE: 0,
  VMA_AREA_REGULAR: 1 << 0,
  VMA_AREA_STACK: 1 << 1,
  VMA_AREA_VSYSCALL: 1 << 2,
  VMA_AREA_VDSO: 1 << 3,
  VMA_AREA_HEAP: 1 << 5,
  VMA_FILE_PRIVATE: 1 << 6,
  VMA_FILE_SHARED: 1 << 7,
  VMA_ANON_SHARED: 1 << 8,
  VMA_ANON_PRIVATE: 1 << 9,
  VMA_AREA_SYSVIPC: 1 << 10,
  VMA_AREA_SOCKET: 1 << 11,
  VMA_AREA_VVAR: 1 << 12,
  VMA_AREA_AIORING: 1 << 13,
  VMA_AREA_MEMFD: 1 << 14,
  VMA_AREA_SHSTK: 1 << 15,
  VMA_AREA_UPROBES: 1 << 17,
  VMA_UNSUPP: 0x8000_0000,
} as const
export const mappingStatus = flags(VmaStatus)

/** PE_PARENT: the bytes are in the parent image; PE_PRESENT: they are in this image's pages file. */
export const PageFlag = { PE_PARENT: 1, PE_LAZY: 2, PE_PRESENT: 4 } as const
export const pageMapFlags = flags(PageFlag)

/** O_* in the numbering of x86-64: other ISAs differ in O_DIRECT, O_LARGEFILE, O_DIRECTORY and O_NOFOLLOW. */
export const openFlags = flags({
  O_WRONLY: 0o1,
  O_RDWR: 0o2,
  O_CREAT: 0o100,
  O_EXCL: 0o200,
  O_NOCTTY: 0o400,
  O_TRUNC: 0o1000,
  O_APPEND: 0o2000,
  O_NONBLOCK: 0o4000,
  O_DSYNC: 0o10000,
  FASYNC: 0o20000,
  O_DIRECT: 0o40000,
  O_LARGEFILE: 0o100000,
  O_DIRECTORY: 0o200000,
  O_NOFOLLOW: 0o400000,
  O_NOATIME: 0o1000000,
  O_CLOEXEC: 0o2000000,
})

export const sealFlags = flags({
  F_SEAL_SEAL: 0x1,
  F_SEAL_SHRINK: 0x2,
  F_SEAL_GROW: 0x4,
  F_SEAL_WRITE: 0x8,
  F_SEAL_FUTURE_WRITE: 0x10,
})

/**
 * The words of CRIU's tool, kept for its scripts. They are wrong: a stopped task is dumped as 3, a zombie as 2
 * (seen in dumps of 4.1 and 4.2); `read-threads.ts` has the truth.
 */
export const taskState = words({ 1: 'Alive', 3: 'Zombie', 6: 'Stopped' })
export const socketFamily = words({ 1: 'UNIX', 2: 'INET', 10: 'INET6', 16: 'NETLINK', 17: 'PACKET' })
export const socketType = words({ 1: 'STREAM', 2: 'DGRAM', 3: 'RAW', 5: 'SEQPACKET', 10: 'PACKET' })
export const socketProtocol = words({ 0: 'IP', 6: 'TCP', 17: 'UDP', 136: 'UDPLITE' })
/** States of TCP; other sockets use the same numbers. */
export const socketState = words({
  1: 'ESTABLISHED',
  2: 'SYN_SENT',
  3: 'SYN_RECV',
  4: 'FIN_WAIT1',
  5: 'FIN_WAIT2',
  6: 'TIME_WAIT',
  7: 'CLOSE',
  8: 'CLOSE_WAIT',
  9: 'LAST_ACK',
  10: 'LISTEN',
})
