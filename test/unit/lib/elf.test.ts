import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BufferSource } from '../../../src/lib/byte-source.js'
import { ElfFile } from '../../../src/lib/elf.js'
import { SHF } from '../../../src/lib/elf-sections.js'
import { ImagoError } from '../../../src/lib/errors.js'
import { tinyElf } from '../../helpers/tiny-elf.js'

const open = (bytes: Uint8Array) => new ElfFile(new BufferSource(bytes))
const FUNCTION = 2
const text = { name: '.text', address: 0x401000n, content: new Uint8Array(0x300), flags: SHF.EXECINSTR }
const sections = [
  text,
  { name: '.data', address: 0x402010n, content: new Uint8Array(0x20), flags: SHF.WRITE },
  { name: '.tbss', address: 0x402030n, content: 0x1000, flags: SHF.WRITE | SHF.TLS },
  { name: '.bss', address: 0x402030n, content: 0x2000, flags: SHF.WRITE },
]

describe('ElfFile', () => {
  test('sections of a range come by address, and thread-local zeros take no room', () => {
    const elf = open(tinyElf(sections))
    expect(elf.sectionsWithin(0x402000n, 0x403000n).map(section => section.name)).toEqual(['.data', '.bss'])
    expect(elf.sectionsWithin(0x401300n, 0x402010n)).toEqual([])
  })

  test('a file offset leads to the address it is loaded at', () => {
    const elf = open(tinyElf(sections))
    expect(elf.addressOfOffset(elf.section('.data')!.offset + 3)).toBe(0x402013n)
    expect(elf.addressOfOffset(1 << 30)).toBeUndefined()
  })

  test('an address is named by the symbol that holds it, as a search through all of them says', () => {
    const some = fc.array(fc.record({ at: fc.nat(0x200), size: fc.integer({ min: 1, max: 0x40 }) }), {
      maxLength: 8,
    })
    fc.assert(
      fc.property(some, fc.nat(0x2ff), (list, probe) => {
        const symbols = list.map(({ at, size }, i) => ({
          name: `s${i}`,
          type: FUNCTION,
          address: text.address + BigInt(at),
          size,
        }))
        const address = text.address + BigInt(probe)
        const hit = open(tinyElf([text], symbols)).symbols.at(address)
        const holding = symbols.filter(
          each => each.address <= address && address < each.address + BigInt(each.size),
        )
        expect(hit === undefined).toBe(holding.length === 0)
        // The innermost: no other that holds the address begins later.
        if (hit) expect(holding.every(each => each.address <= hit.address)).toBe(true)
      }),
    )
  })

  test('labels of the assembler without a size do not hide functions; mapping symbols are no names', () => {
    const elf = open(
      tinyElf(
        [text],
        [
          { name: 'main', type: FUNCTION, address: 0x401000n, size: 0x100 },
          { name: '$x', type: 0, global: false, address: 0x401010n, size: 0 },
          { name: '_start', type: 0, address: 0x401200n, size: 0 },
        ],
      ),
    )
    expect(elf.symbols.at(0x401020n)?.name).toBe('main')
    expect(elf.symbols.at(0x401180n)).toBeUndefined()
    expect(elf.symbols.at(0x401210n)?.name).toBe('_start')
    expect([...elf.symbols.within(0x401050n, 0x402000n)].map(each => each.name)).toEqual(['main', '_start'])
  })

  test('a damaged file gives a named error, never a crash', () => {
    const whole = tinyElf(sections, [{ name: 'main', type: FUNCTION, address: 0x401000n, size: 9 }])
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.boolean(), (at, value, cut) => {
        const bytes = cut ? whole.slice(0, at) : whole.slice()
        if (!cut) bytes[at] = value
        try {
          const elf = open(bytes)
          elf.sectionsWithin(0n, 1n << 48n)
          elf.symbols.at(0x401004n)
          elf.addressOfOffset(0x1000)
        } catch (error) {
          expect(error).toBeInstanceOf(ImagoError)
        }
      }),
      {
        numRuns: 2000,
        examples: [60, 61, 40, 41, 42, 43].flatMap(at => [[at, 255, false] as [number, number, boolean]]),
      },
    )
  })
})
