/**
 * An image as the ScratchVM itself writes it, put together by its layout alone (nothing of imago's writer): a guest
 * that has opened ./ay_caramba.txt as descriptor 8, written 16 bytes from 0xa000 and asked to be saved. Its program,
 * assembled by hand, writes 12 more bytes, says so, closes and exits.
 */
const le32 = (value: number) => [value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24]
const mov = (register: number, value: number) => [0xb8 + register, ...le32(value)] // mov r32, imm32
const [EAX, EDX, ESI, EDI] = [0, 2, 6, 7]
const call = (number: number, a: number, b: number, c: number) => [
  ...mov(EAX!, number),
  ...mov(EDI!, a),
  ...mov(ESI!, b),
  ...mov(EDX!, c),
  ...[0x0f, 0x05], // syscall
]

export const sampleTexts = { before: 'Hello World !!!\n', after: 'Bye Bye !!!\n', said: 'written\n' }

export function scratchSample({ packed = false } = {}): Buffer {
  const image = Buffer.alloc(1_002_376)
  const memory = image.subarray(1408, 1408 + 61_440)
  const texts = Object.values(sampleTexts)
  const at = [0xa000, 0xa100, 0xa200]
  for (const [i, text] of texts.entries()) memory.write(text, at[i]!, 'latin1')
  memory.set([0xf4, 0x48, 0x0f, 0x07], 0x80a0) // hlt; sysretq
  memory.set(
    [
      ...[0x0f, 0x05], // syscall: the save
      ...[0x3d, ...le32(400), 0x74, 0x02, 0x0f, 0x0b], // cmp eax, 400; je +2; ud2
      ...call(1, 8, at[1]!, texts[1]!.length),
      ...call(1, 1, at[2]!, texts[2]!.length),
      ...call(3, 8, 0, 0),
      ...call(60, 0, 0, 0),
    ],
    0x9000,
  )
  const registers: Record<number, number> = {
    0: 400, // rax
    2: 0x9002, // rcx: where the program goes on
    6: 0xddd8, // rsp
    7: 0xddd8, // rbp
    11: 0x212, // r11: its flags
    16: 0x80a1, // rip
    17: 0x12,
  }
  for (const [index, value] of Object.entries(registers))
    image.writeBigUInt64LE(BigInt(value), Number(index) * 8)
  const sregs = 144
  const segment = (index: number, selector: number, type: number, long: number) => {
    const base = sregs + index * 24
    image.writeUInt32LE(0xffffffff, base + 8)
    image.writeUInt16LE(selector, base + 12)
    image.set([type, 1, 0, 1 - long, 1, long, 1], base + 14) // type present dpl db s l g
  }
  segment(0, 8, 11, 1)
  for (let i = 1; i < 6; i++) segment(i, 0x10, 3, 0)
  image.writeBigUInt64LE(0xe0000011n, sregs + 224)
  image.writeBigUInt64LE(0x1000n, sregs + 240)
  image.writeBigUInt64LE(0x620n, sregs + 248)
  image.writeBigUInt64LE(0x501n, sregs + 264)
  image.writeUInt32LE(3, 456)
  const msrs: Array<[number, bigint]> = [
    [0xc0000080, 0x501n],
    [0xc0000081, 0x0018_0008_0000_0000n],
    [0xc0000082, 0x80a0n],
  ]
  for (const [i, [index, value]] of msrs.entries()) {
    image.writeUInt32LE(index, 464 + i * 16)
    image.writeBigUInt64LE(value, 464 + i * 16 + 8)
  }
  image.writeUInt16LE(0x37f, 976 + 128)
  image.writeBigUInt64LE(61_440n, 1392)
  image[984_448] = 1
  const file = 984_456
  for (const [i, value] of [8, 8, 32834, at[0]!].entries()) image.writeUInt32LE(value, file + i * 4)
  image.writeBigUInt64LE(16n, file + 16)
  image.write('./ay_caramba.txt', file + 24, 'latin1')
  return packed ? Buffer.concat([image.subarray(0, 984_449), image.subarray(984_456)]) : image
}
