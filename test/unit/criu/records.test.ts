import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeImageFile, encodeImageFile, type ImageFile } from '../../../src/formats/criu/image-file.js'
import { imageKinds, kindByName } from '../../../src/formats/criu/image-kinds.js'
import { imageFromJson, imageToJson } from '../../../src/formats/criu/json.js'
import { jsonText } from '../../../src/formats/criu/json-text.js'
import { ipAddressText, ipAddressWords } from '../../../src/formats/criu/json-values.js'
import { pagemap_entry, pagemap_head } from '../../../src/formats/criu/schema/memory.js'
import { messages } from '../../../src/formats/criu/schema/messages.js'
import { decodeText, encodeText } from '../../../src/lib/escaped-text.js'
import { decodeMessage, encodeMessage } from '../../../src/lib/protobuf.js'
import { type Message, UNKNOWN } from '../../../src/lib/protobuf-schema.js'
import { readExactJson, writePythonJson } from '../../../src/lib/python-json.js'
import { decodeQuotedPrintable, encodeQuotedPrintable } from '../../../src/lib/quoted-printable.js'
import { someRecord } from '../../helpers/criu-records.js'
import { rounds } from '../../helpers/rounds.js'

const numRuns = rounds(200, 15)
const types = Object.values(messages)

describe('every message of the table', () => {
  test('there are all 173', () => {
    expect(types).toHaveLength(173)
    for (const type of types)
      expect(new Set(type.ordered.map(field => field.number)).size).toBe(type.ordered.length)
  })

  test.each(types.map(type => [type.name, type] as const))('%s: a record survives encoding', (_, type) => {
    fc.assert(
      fc.property(someRecord(type), record => {
        const bytes = encodeMessage(type, record)
        const decoded = decodeMessage(type, bytes)
        expect(decoded).toEqual(record)
        // A copy has no bytes of its own to fall back on: the canonical form itself must be right.
        expect(Buffer.compare(encodeMessage(type, { ...decoded }), bytes)).toBe(0)
      }),
      { numRuns },
    )
  })

  test('fields from a newer CRIU come back at their place, in records that changed too', () => {
    const type = messages.fs_entry!
    const known = encodeMessage(type, { cwd_id: 1, root_id: 2 })
    const bytes = Uint8Array.from([...known, 0x22, 2, 7, 8, 0x28, 0x96, 1, 0x31, 1, 2, 3, 4, 5, 6, 7, 8])
    const record = decodeMessage(type, bytes)
    expect(record[UNKNOWN]).toHaveLength(3)
    expect(Buffer.compare(encodeMessage(type, record), bytes)).toBe(0)
    const changed = encodeMessage(type, { ...record, root_id: 3 })
    expect([...changed]).toEqual([...bytes.with(3, 3)])
  })

  test('an odd encoding (fields out of order, a long varint, packed numbers) comes back to the byte', () => {
    const odd = [
      [messages.fs_entry!, [0x10, 2, 0x08, 1]],
      [messages.fs_entry!, [0x08, 0x81, 0, 0x10, 2]],
      [messages.fs_entry!, [0x08, 1, 0x08, 5, 0x10, 2]],
      [messages.pstree_entry!, [0x08, 1, 0x10, 0, 0x18, 1, 0x20, 1, 0x2a, 3, 1, 2, 3]],
    ] as const
    for (const [type, list] of odd) {
      const bytes = Uint8Array.from(list)
      expect([...encodeMessage(type, decodeMessage(type, bytes))]).toEqual([...bytes])
    }
    const packed = decodeMessage(messages.pstree_entry!, Uint8Array.from(odd[3][1]))
    expect((packed as Message).threads).toEqual([1, 2, 3])
  })
})

/** A file of `kind` with random entries that have no raw data. */
const plainKinds = imageKinds.filter(kind => kind.extra === undefined && kind.head === undefined)

describe('every kind of image', () => {
  test.each(
    plainKinds.map(kind => [kind.name, kind] as const),
  )('%s: JSON in both forms gives the same bytes', (_, kind) => {
    fc.assert(
      fc.property(fc.array(someRecord(kind.entry, { tame: true }), { maxLength: 3 }), records => {
        const image: ImageFile = {
          kind,
          framing: kind.framing,
          entries: records.map(message => ({ type: kind.entry, message })),
        }
        const bytes = encodeImageFile(image)
        for (const readable of [true, false]) {
          const text = writePythonJson(imageToJson(decodeImageFile(bytes), { readable }))
          expect(Buffer.compare(encodeImageFile(imageFromJson(readExactJson(text))), bytes)).toBe(0)
        }
      }),
      { numRuns },
    )
  })

  test('page maps: the quick way writes the same JSON as the table', () => {
    const kind = kindByName.get('PAGEMAP')!
    fc.assert(
      fc.property(
        fc.array(someRecord(pagemap_entry), { maxLength: 8 }),
        fc.boolean(),
        (records, readable) => {
          const entries = [
            { type: pagemap_head, message: { pages_id: 7 } },
            ...records.map(message => ({ type: pagemap_entry, message })),
          ]
          const bytes = encodeImageFile({ kind, framing: 'common', entries })
          const quick = Buffer.concat(
            [...jsonText(bytes, { readable })].map(piece => Buffer.from(piece as string)),
          )
          const byTable = writePythonJson(
            imageToJson(decodeImageFile(bytes), { readable }),
            readable ? 4 : undefined,
          )
          expect(quick.toString('latin1')).toBe(byTable)
          expect(Buffer.compare(encodeImageFile(imageFromJson(readExactJson(byTable))), bytes)).toBe(0)
        },
      ),
      { numRuns: numRuns * 4 },
    )
  })

  test('files of CRIU 1.0 (one magic) stay as they are, through JSON too', () => {
    const kind = kindByName.get('FS')!
    const bytes = encodeImageFile({
      kind,
      framing: 'bare',
      entries: [{ type: kind.entry, message: { cwd_id: 1, root_id: 2 } }],
    })
    expect(bytes.length).toBe(4 + 4 + 4)
    expect(Buffer.compare(encodeImageFile(decodeImageFile(bytes)), bytes)).toBe(0)
    const json = readExactJson(writePythonJson(imageToJson(decodeImageFile(bytes))))
    expect(Buffer.compare(encodeImageFile(imageFromJson(json)), bytes)).toBe(0)
  })
})

/** Raw data after the entries: [kind, entry, the bytes after it]. */
const withExtra = [
  ['PIPES_DATA', { pipe_id: 1, bytes: 5 }, [1, 2, 3, 4, 5]],
  ['FIFO_DATA', { pipe_id: 1, bytes: 0, size: 65536 }, []],
  ['SK_QUEUES', { id_for: 1, length: 3, scm: [] }, [9, 8, 7]],
  [
    'TCP_STREAM',
    { inq_len: 2, inq_seq: 1, outq_len: 3, outq_seq: 1, opt_mask: 0, snd_wscale: 7, mss_clamp: 1 },
    [1, 2, 3, 4, 5],
  ],
  ['BPFMAP_DATA', { map_id: 1, keys_bytes: 2, values_bytes: 4, count: 1 }, [1, 2, 3, 4, 5, 6]],
  ['IPCNS_SEM', { desc: desc(), nsems: 3 }, [1, 0, 2, 0, 3, 1, 0, 0]],
  ['IPCNS_SHM', { desc: desc(), size: 6n }, [1, 2, 3, 4, 5, 6, 0, 0]],
  ['IPCNS_SHM', { desc: desc(), size: 4096n, in_pagemaps: true }, []],
  ['IPCNS_MSG', { desc: desc(), qbytes: 9, qnum: 1 }, [4, 0, 0, 0, 8, 5, 16, 3, 65, 66, 67, 0, 0, 0, 0, 0]],
  ['GHOST_FILE', { uid: 0, gid: 0, mode: 33188 }, [1, 2, 3]],
] as const

function desc() {
  return { key: 1, uid: 2, gid: 3, cuid: 4, cgid: 5, mode: 6, id: 7 }
}

describe('raw data after entries', () => {
  test.each(withExtra)('%s comes back to the byte, as JSON too', (name, message, extra) => {
    const kind = kindByName.get(name)!
    const entry = { type: kind.entry, message, extra: Uint8Array.from(extra) }
    const entries = kind.extra === 'ghostFile' ? [entry] : [entry, entry]
    const bytes = encodeImageFile({ kind, framing: 'common', entries })
    const decoded = decodeImageFile(bytes)
    expect(decoded.entries.map(each => [...each.extra!])).toEqual(entries.map(each => [...each.extra]))
    expect(Buffer.compare(encodeImageFile(decoded), bytes)).toBe(0)
    const json = readExactJson(writePythonJson(imageToJson(decoded, { readable: true })))
    expect(Buffer.compare(encodeImageFile(imageFromJson(json)), bytes)).toBe(0)
  })

  test('a ghost file in chunks', () => {
    const kind = kindByName.get('GHOST_FILE')!
    const chunk = messages.ghost_chunk_entry!
    const entries = [
      {
        type: kind.entry,
        message: { uid: 0, gid: 0, mode: 33188, chunks: true, size: 100n },
        extra: new Uint8Array(),
      },
      { type: chunk, message: { len: 3n, off: 50n }, extra: Uint8Array.from([1, 2, 3]) },
      { type: chunk, message: { len: 2n, off: 90n }, extra: Uint8Array.from([4, 5]) },
    ]
    const bytes = encodeImageFile({ kind, framing: 'common', entries })
    const decoded = decodeImageFile(bytes)
    expect(decoded.entries.map(entry => [...entry.extra!])).toEqual([[], [1, 2, 3], [4, 5]])
    const json = readExactJson(writePythonJson(imageToJson(decoded)))
    expect(Buffer.compare(encodeImageFile(imageFromJson(json)), bytes)).toBe(0)
  })
})

describe('text and numbers', () => {
  test('bytes that are no UTF-8 survive as text', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), bytes => {
        expect([...encodeText(decodeText(bytes))]).toEqual([...bytes])
      }),
      { numRuns: 2000 },
    )
  })

  test('quoted-printable gives the bytes back', () => {
    const octets = fc.array(fc.oneof(fc.nat(255), fc.constantFrom(9, 10, 13, 32, 46, 61)), { maxLength: 200 })
    fc.assert(
      fc.property(octets, list => {
        expect([...decodeQuotedPrintable(encodeQuotedPrintable(Uint8Array.from(list)))]).toEqual(list)
      }),
      { numRuns: 500 },
    )
  })

  test('addresses are written as RFC 5952 wants, and read back', () => {
    const text = (hex: string) => {
      const bytes = Buffer.from(hex, 'hex')
      return ipAddressText(Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readUInt32LE(4 * i)))
    }
    expect(text('7f000001')).toBe('127.0.0.1')
    expect(text('00000000000000000000000000000000')).toBe('::')
    expect(text('00000000000000000000000000000001')).toBe('::1')
    expect(text('20010db8000000010000000000000001')).toBe('2001:db8:0:1::1')
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(0, 1, 0x100, 0xffffffff), { minLength: 4, maxLength: 4 }),
        words => {
          expect(ipAddressWords(ipAddressText(words)!)).toEqual(words)
        },
      ),
    )
  })
})
