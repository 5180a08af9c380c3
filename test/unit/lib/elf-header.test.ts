import fs from 'node:fs'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { BufferSource, FileSource } from '../../../src/lib/byte-source.js'
import {
  EM,
  ET,
  PT,
  readElfHeader,
  readNotes,
  readProgramHeaders,
  writeElfHeader,
  writeNotes,
  writeProgramHeaders,
} from '../../../src/lib/elf-header.js'
import { ImagoError } from '../../../src/lib/errors.js'

const someSegment = fc.record({
  type: fc.nat(0xffff),
  flags: fc.nat(7),
  offset: fc.nat(),
  virtualAddress: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  physicalAddress: fc.constant(0n),
  fileSize: fc.nat(),
  memorySize: fc.maxSafeNat(),
  alignment: fc.constant(4096),
})

test('program headers come back as they were written, beyond 65 534 of them too', () => {
  fc.assert(
    fc.property(
      fc.array(someSegment, { maxLength: 20 }),
      fc.constantFrom(1, 1, 1, 1, 7000),
      fc.nat(100),
      (segments, copies, between) => {
        const all = Array.from({ length: copies }, () => segments).flat()
        const gap = new Uint8Array(between)
        const file = writeElfHeader({ type: ET.CORE, machine: EM.AARCH64 }, 64 + between, all.length)
        const source = new BufferSource(Buffer.concat([file, gap, writeProgramHeaders(all)]))
        const header = readElfHeader(source)
        expect([header.type, header.machine, header.programHeaderCount]).toEqual([
          ET.CORE,
          EM.AARCH64,
          all.length,
        ])
        expect(readProgramHeaders(source, header)).toEqual(all)
      },
    ),
    { numRuns: 30 },
  )
})

test('notes come back as they were written', () => {
  const someNote = fc.record({
    name: fc.string({ unit: fc.constantFrom('A', 'b', '-'), maxLength: 9 }),
    type: fc.nat(0xffffffff),
    descriptor: fc.uint8Array({ maxLength: 40 }),
  })
  fc.assert(
    fc.property(fc.array(someNote), notes => {
      const bytes = writeNotes(notes)
      const segment = {
        type: PT.NOTE,
        flags: 0,
        offset: 0,
        virtualAddress: 0n,
        physicalAddress: 0n,
        fileSize: bytes.length,
        memorySize: 0,
        alignment: 4,
      }
      const read = readNotes(new BufferSource(bytes), segment)
      expect(read.map(({ name, type, descriptor }) => ({ name, type, descriptor: [...descriptor] }))).toEqual(
        notes.map(note => ({ ...note, descriptor: [...note.descriptor] })),
      )
    }),
  )
})

test("the node binary's own headers are read", () => {
  const source = new FileSource(process.execPath)
  const header = readElfHeader(source)
  const segments = readProgramHeaders(source, header)
  expect(segments.filter(segment => segment.type === PT.LOAD).length).toBeGreaterThan(1)
  expect(
    segments.every(segment => segment.offset + segment.fileSize <= fs.statSync(process.execPath).size),
  ).toBe(true)
})

test('a mutated header is refused with a named error or read, never crashes', () => {
  const bytes = writeElfHeader({ type: ET.CORE, machine: EM.X86_64 }, 64, 0)
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
      const mutated = Uint8Array.from(bytes)
      mutated[at] = value
      const source = new BufferSource(mutated)
      try {
        readProgramHeaders(source, readElfHeader(source))
      } catch (error) {
        expect(error).toBeInstanceOf(ImagoError)
      }
    }),
  )
})
