import { ByteWriter } from '../../src/lib/bytes.js'
import { EM, ET, PROGRAM_HEADER_SIZE, PT } from '../../src/lib/elf-header.js'
import { SHF, SHT } from '../../src/lib/elf-sections.js'

export interface TinySection {
  name: string
  address: bigint
  /** The bytes, or a size for a section without bytes (.bss). */
  content: Uint8Array | number
  flags: number
}

export interface TinySymbol {
  name: string
  /** STT_* */
  type: number
  global?: boolean
  address: bigint
  size: number
}

/**
 * A small but whole ELF64 executable: one PT_LOAD over all sections (file offsets equal addresses minus the
 * lowest, page aligned), section headers, symbols and names.
 */
export function tinyElf(
  sections: readonly TinySection[],
  symbols: readonly TinySymbol[] = [],
  machine: number = EM.X86_64,
): Uint8Array {
  const base = sections.reduce((low, { address }) => (address < low ? address : low), 1n << 60n) & ~0xfffn
  const body = 0x1000
  const offsetOf = (address: bigint) => body + Number(address - base)
  const sizeOf = ({ content }: TinySection) => (typeof content === 'number' ? content : content.length)
  const fileEnd = Math.max(
    ...sections.map(
      each => offsetOf(each.address) + (typeof each.content === 'number' ? 0 : each.content.length),
    ),
  )
  const memoryEnd = Math.max(...sections.map(each => offsetOf(each.address) + sizeOf(each)))

  const names = new ByteWriter().u8(0)
  const nameOf = (name: string) => {
    const at = names.length
    names.put(Buffer.from(`${name}\0`))
    return at
  }
  const table = new ByteWriter().zeros(24)
  for (const { name, type, global, address, size } of symbols)
    table
      .u32(nameOf(name))
      .u8(((global === false ? 0 : 1) << 4) | type)
      .u8(0)
      .u16(1)
      .u64(address)
      .u64(BigInt(size))

  const symbolsAt = fileEnd
  const headers = new ByteWriter()
  const header = (
    name: number,
    type: number,
    flags: number,
    address: bigint,
    offset: number,
    size: number,
    link = 0,
  ) =>
    headers
      .u32(name)
      .u32(type)
      .u64(BigInt(flags))
      .u64(address)
      .u64(BigInt(offset))
      .u64(BigInt(size))
      .u32(link)
      .u32(0)
      .u64(1n)
      .u64(type === SHT.SYMTAB ? 24n : 0n)
  header(0, 0, 0, 0n, 0, 0)
  for (const each of sections)
    header(
      nameOf(each.name),
      typeof each.content === 'number' ? SHT.NOBITS : SHT.PROGBITS,
      each.flags | SHF.ALLOC,
      each.address,
      offsetOf(each.address),
      sizeOf(each),
    )
  const strings = sections.length + 2
  header(nameOf('.symtab'), SHT.SYMTAB, 0, 0n, symbolsAt, table.length, strings)
  const namesName = nameOf('.strtab')
  const namesAt = symbolsAt + table.length
  header(namesName, SHT.STRTAB, 0, 0n, namesAt, names.length)
  const headersAt = namesAt + names.length

  const file = new ByteWriter(headersAt + headers.length)
  file.u32(0x464c457f).u8(2).u8(1).u8(1).zeros(9).u16(ET.EXEC).u16(machine).u32(1).u64(base)
  file
    .u64(64n)
    .u64(BigInt(headersAt))
    .u32(0)
    .u16(64)
    .u16(PROGRAM_HEADER_SIZE)
    .u16(1)
    .u16(64)
    .u16(strings + 1)
    .u16(strings)
  file
    .u32(PT.LOAD)
    .u32(7)
    .u64(BigInt(body))
    .u64(base)
    .u64(base)
    .u64(BigInt(fileEnd - body))
    .u64(BigInt(memoryEnd - body))
    .u64(0x1000n)
  const bytes = file
    .zeros(fileEnd - file.length)
    .put(table.finish())
    .put(names.finish())
    .put(headers.finish())
    .finish()
  for (const each of sections)
    if (typeof each.content !== 'number') bytes.set(each.content, offsetOf(each.address))
  return bytes
}
