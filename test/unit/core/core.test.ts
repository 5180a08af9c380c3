import fs from 'node:fs'
import path from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { recordKinds } from '../../../src/formats/core/note-layout.js'
import {
  decodeRecords,
  encodeRecords,
  makeRecord,
  type NoteRecord,
  recordKindNamed,
} from '../../../src/formats/core/private-notes.js'
import { read } from '../../../src/formats/core/read.js'
import { prstatusRegisters } from '../../../src/formats/core/standard-notes.js'
import { verify } from '../../../src/formats/core/verify.js'
import { writeCore } from '../../../src/formats/core/write.js'
import { ImagoError, UnreadableError } from '../../../src/lib/errors.js'
import { Memory, PAGE_SIZE } from '../../../src/model/memory.js'
import type { Mapping } from '../../../src/model/process.js'
import { diffProcessImages } from '../../../src/model/process-diff.js'
import { verifyProcessImage } from '../../../src/model/process-verify.js'
import { someImage, someMapping, someProcess, someThread } from '../../helpers/process-image.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

describe('records of the private notes', () => {
  test.each(
    recordKinds.map(kind => [kind.name, kind] as const),
  )('%s: decode then encode gives the same bytes', (_, kind) => {
    const values = fc.record(
      Object.fromEntries(
        kind.fields.map(({ name, type }) => {
          if (typeof type === 'object')
            return [name, fc.uint8Array({ minLength: type.bytes, maxLength: type.bytes })]
          if (type === 'string') return [name, fc.uint8Array({ maxLength: 12 })]
          if (type === 'i32') return [name, fc.integer()]
          if (type === 'u32') return [name, fc.nat(0xffffffff)]
          return [
            name,
            type === 'u64'
              ? fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
              : fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
          ]
        }),
      ),
    )
    fc.assert(
      fc.property(fc.array(values, { maxLength: 4 }), rows => {
        const records = rows.map(row => makeRecord(kind.name, row as Parameters<typeof makeRecord>[1]))
        const bytes = encodeRecords(kind, records)
        const decoded = decodeRecords(kind, bytes)
        expect(
          decoded.map(record =>
            [...record.values].map(([name, value]) => [
              name,
              value instanceof Uint8Array ? [...value] : value,
            ]),
          ),
        ).toEqual(
          records.map(record =>
            [...record.values].map(([name, value]) => [
              name,
              value instanceof Uint8Array ? [...value] : value,
            ]),
          ),
        )
        expect(Buffer.from(encodeRecords(kind, decoded)).equals(bytes)).toBe(true)
      }),
      { numRuns: 20 },
    )
  })

  test('what a newer writer appended to a record survives', () => {
    const kind = recordKindNamed('limit')
    const bytes = encodeRecords(kind, [makeRecord(kind.name, { resource: 7, soft: 1n, hard: 2n })])
    const grown = new Uint8Array(bytes.length + 8)
    grown.set(bytes)
    grown.fill(0xab, bytes.length)
    new DataView(grown.buffer).setUint32(0, bytes.length - 16 + 8, true)
    const decoded = decodeRecords(kind, grown)
    expect(decoded[0]!.number('resource')).toBe(7)
    expect(Buffer.from(encodeRecords(kind, decoded)).equals(grown)).toBe(true)
  })
})

/** A process with code, a data mapping of some pages and a stack, and its image's private records. */
function writeSample(file: string): void {
  const page = (fill: number) => new Uint8Array(PAGE_SIZE).fill(fill)
  const mappings = [
    someMapping(0x1000n, 0x3000n, { execute: true }),
    someMapping(0x7000n, 0xb000n, { write: true }),
  ]
  const memory = Memory.from([
    { address: 0x1000n, length: PAGE_SIZE, content: { kind: 'bytes', bytes: page(0xcc) } },
    { address: 0x2000n, length: PAGE_SIZE, content: { kind: 'zero' } },
    { address: 0x7000n, length: 2 * PAGE_SIZE, content: { kind: 'zero' } },
    { address: 0x9000n, length: PAGE_SIZE, content: { kind: 'bytes', bytes: page(7) } },
    { address: 0xa000n, length: PAGE_SIZE, content: { kind: 'zero' } },
  ])
  const registers = {
    general: new Map(
      prstatusRegisters['x86-64'].map((name, i) => [
        name,
        name === 'rip' ? 0x1010n : name === 'rsp' ? 0x8000n : BigInt(i),
      ]),
    ),
    vector: undefined,
  }
  const process = someProcess({ mappings, memory, threads: [someThread({ registers })] })
  const image = someImage([process])
  writeCore(file, image, process, placed => {
    const records = new Map<string, NoteRecord[]>()
    records.set('image', [makeRecord('image', { version: 1, machine: 62, pageSize: 4096, tool: 'test' })])
    records.set('process', [
      makeRecord('process', { pid: 100, parent: 1, name: 'prog', executable: '/bin/prog' }),
    ])
    records.set('thread', [makeRecord('thread', { tid: 100, name: 'prog' })])
    records.set(
      'mapping',
      placed.map(({ mapping, offset, size }) => mappingRecord(mapping, offset, size)),
    )
    return records
  })
}

function mappingRecord(mapping: Mapping, offset: number, size: number): NoteRecord {
  const protection = (mapping.read ? 1 : 0) | (mapping.write ? 2 : 0) | (mapping.execute ? 4 : 0)
  return makeRecord('mapping', {
    start: mapping.start,
    end: mapping.end,
    contentOffset: offset,
    contentSize: size,
    storedPages: 1,
    protection,
  })
}

describe('a core', () => {
  test('comes back from its file as the model it was written from', async () => {
    const file = path.join(temporaryFolder(), 'core')
    writeSample(file)
    const image = await read(file)
    expect(verifyProcessImage(image)).toEqual([])
    const process = image.processes[0]!
    expect(process.mappings.map(mapping => [mapping.start, mapping.end, mapping.write])).toEqual([
      [0x1000n, 0x3000n, false],
      [0x7000n, 0xb000n, true],
    ])
    expect(process.memory.read(0x9000n, 1)[0]).toBe(7)
    expect(process.memory.read(0xa000n, PAGE_SIZE).every(byte => byte === 0)).toBe(true)
    expect(process.threads[0]!.registers.general.get('rip')).toBe(0x1010n)
    expect([process.name, process.executable, process.pid]).toEqual(['prog', '/bin/prog', 100])
    expect(diffProcessImages(image, image).processes).toEqual([])
  })

  test('takes no disk for its zeros', () => {
    const file = path.join(temporaryFolder(), 'core')
    writeSample(file)
    expect(fs.statSync(file).blocks * 512).toBeLessThan(fs.statSync(file).size)
  })

  test('verify finds a changed byte of memory', async () => {
    const file = path.join(temporaryFolder(), 'core')
    writeSample(file)
    const raw = fs.readFileSync(file)
    raw[raw.indexOf(Buffer.alloc(64, 7))]! ^= 1
    fs.writeFileSync(file, raw)
    expect((await verify(file)).join()).toMatch(/0x7000.*changed/)
  })

  test('cut short at any length is refused', async () => {
    const file = path.join(temporaryFolder(), 'core')
    writeSample(file)
    const whole = fs.readFileSync(file)
    for (let length = 0; length < whole.length; length += 509) {
      fs.writeFileSync(file, whole.subarray(0, length))
      await expect(read(file), `cut at ${length}`).rejects.toThrow(UnreadableError)
    }
  })

  test('with any header or note byte changed is refused with a named error; 10,000 mutations', async () => {
    const file = path.join(temporaryFolder(), 'core')
    writeSample(file)
    const whole = fs.readFileSync(file)
    const notes = Number(whole.readBigUInt64LE(whole.readUIntLE(32, 6) + 8)) // p_offset of the first program header
    const fd = fs.openSync(file, 'r+')
    let seed = 1
    const random = (below: number) => {
      seed = (seed * 48271) % 0x7fffffff
      return seed % below
    }
    for (let round = 0; round < 10_000; round++) {
      const place = random(64 + whole.length - notes)
      const at = place < 64 ? place : notes + place - 64
      const flipped = whole[at]! ^ (1 + random(255))
      fs.writeSync(fd, Uint8Array.of(flipped), 0, 1, at)
      try {
        const image = await read(file)
        verifyProcessImage(image)
      } catch (error) {
        if (!(error instanceof ImagoError))
          throw new Error(`byte ${at} = ${flipped}: ${(error as Error).stack}`)
      }
      fs.writeSync(fd, whole, at, 1, at)
    }
    fs.closeSync(fd)
  })
})
