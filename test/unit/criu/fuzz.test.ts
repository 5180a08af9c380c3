import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { decodeImageFile, describeImageFile, encodeImageFile } from '../../../src/formats/criu/image-file.js'
import { imageFromJson } from '../../../src/formats/criu/json.js'
import { jsonText } from '../../../src/formats/criu/json-text.js'
import { readCriu } from '../../../src/formats/criu/read.js'
import { ImagoError } from '../../../src/lib/errors.js'
import { readExactJson } from '../../../src/lib/python-json.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const samples = path.join(import.meta.dirname, '../../data/criu')
const files = ['x86-64', 'aarch64'].flatMap(isa =>
  fs
    .readdirSync(path.join(samples, isa))
    .filter(name => name.endsWith('.img') && !name.startsWith('pages-'))
    .map(name => path.join(samples, isa, name)),
)

/** The same numbers each run (mulberry32), so that a failure can be had again. */
function generator(seed: number): (below: number) => number {
  let state = seed
  return below => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

/** What a broken disk, a cut transfer or an attacker does to a file. */
function mutate(original: Uint8Array, random: (below: number) => number): Uint8Array {
  let bytes = Buffer.from(original)
  // Half of them change single bytes only: those get past the framing.
  const kinds = random(2) === 0 ? 2 : 7
  for (let changes = 1 + random(3); changes > 0; changes--) {
    const at = random(Math.max(bytes.length, 1))
    switch (random(kinds)) {
      case 0:
        bytes[at] = random(256)
        break
      case 1:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8))
        break
      case 2:
        bytes = bytes.subarray(0, at)
        break
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from([random(256), 0xff]), bytes.subarray(at)])
        break
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random(8))])
        break
      case 5: // a length that is nearly anything
        if (bytes.length >= at + 4)
          bytes.writeUInt32LE([0, 0xffff_ffff, 0x7fff_ffff, 1 << random(31)][random(4)]!, at)
        break
      default: // a varint of all ones
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          Buffer.alloc(9, 0xff),
          Buffer.from([1]),
          bytes.subarray(at),
        ])
    }
  }
  return bytes
}

/** Runs `work`; only an error that a user can read is all right. Returns its value, or undefined after such an error. */
function orNamedError<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    if (error instanceof ImagoError) return undefined
    throw error
  }
}

describe('broken images', () => {
  const count = rounds(20_000, 3_000)

  test(`${count} mutated files: each a named error, or decoded so that it encodes to the same bytes`, () => {
    const random = generator(20261121)
    const originals = files.map(file => fs.readFileSync(file))
    let decoded = 0
    for (let round = 0; round < count; round++) {
      const bytes = mutate(originals[round % originals.length]!, random)
      const image = orNamedError(() => decodeImageFile(bytes))
      orNamedError(() => describeImageFile(bytes))
      const text = orNamedError(() => [...jsonText(bytes, { readable: round % 2 === 0 })].join(''))
      if (image === undefined) continue
      decoded++
      expect(Buffer.compare(encodeImageFile(image), bytes)).toBe(0)
      // What can be decoded can be shown, and what is shown can be encoded.
      expect(text).toBeDefined()
      orNamedError(() => imageFromJson(readExactJson(text!)))
    }
    // Mutations must reach beyond the first check.
    expect(decoded).toBeGreaterThan(count / 10)
    expect(decoded).toBeLessThan(count)
  }, 600_000)

  const folders = rounds(4_000, 400)

  test(`${folders} image directories with a mutated file: each a named error or a process`, async () => {
    const random = generator(7)
    const folder = temporaryFolder()
    for (const isa of ['x86-64', 'aarch64']) {
      const source = path.join(samples, isa)
      const copy = path.join(folder, isa)
      fs.cpSync(source, copy, { recursive: true })
      const names = fs.readdirSync(source).filter(name => name.endsWith('.img'))
      let read = 0
      for (let round = 0; round < folders / 2; round++) {
        const name = names[round % names.length]!
        const original = fs.readFileSync(path.join(source, name))
        fs.writeFileSync(path.join(copy, name), mutate(original, random))
        try {
          const image = await readCriu(copy)
          for (const process of image.processes)
            for (const extent of process.memory.extents) {
              expect(extent.length).toBeGreaterThan(0)
              process.memory.read(extent.address, Math.min(extent.length, 4096))
            }
          for (const source of new Set(
            image.processes.flatMap(process =>
              process.memory.extents.flatMap(({ content }) =>
                content.kind === 'slice' ? [content.source] : [],
              ),
            ),
          ))
            source.close()
          read++
        } catch (error) {
          if (!(error instanceof ImagoError)) throw error
        }
        fs.writeFileSync(path.join(copy, name), original)
      }
      expect(read).toBeGreaterThan(0)
    }
  }, 600_000)

  test('a claim of four billion bytes is refused before anything is allocated', () => {
    const bytes = Buffer.alloc(12)
    bytes.writeUInt32LE(0x54564319, 0)
    bytes.writeUInt32LE(0x50273030, 4)
    bytes.writeUInt32LE(0xffff_ffff, 8)
    expect(() => decodeImageFile(bytes, 'pstree.img')).toThrow(/runs past the end/)
  })

  test('messages within messages without end are refused', () => {
    // cgroup_dir_entry holds itself.
    let nested = Buffer.from([0x0a, 1, 65])
    for (let depth = 0; depth < 3000; depth++) {
      const length = [...varint(nested.length)]
      nested = Buffer.concat([Buffer.from([0x0a, 1, 65, 0x12, ...length]), nested])
    }
    const controller = Buffer.concat([Buffer.from([0x12, ...varint(nested.length)]), nested])
    const entry = Buffer.concat([Buffer.from([0x12, ...varint(controller.length)]), controller])
    const head = Buffer.alloc(12)
    head.writeUInt32LE(0x54564319, 0)
    head.writeUInt32LE(0x59383330, 4)
    head.writeUInt32LE(entry.length, 8)
    expect(() => decodeImageFile(Buffer.concat([head, entry]))).toThrow(/deep/)
  })
})

function* varint(value: number): Generator<number> {
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) {
      yield rest
      return
    }
    yield (rest & 0x7f) | 0x80
  }
}
