import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeHeader, encodeHeader } from '../../../src/formats/microvm/header.js'
import { openMicroVmFile, verifyMicroVmFile } from '../../../src/formats/microvm/image-file.js'
import { fileKinds, type MicroVmRecord } from '../../../src/formats/microvm/record.js'
import {
  decodeScratch,
  encodeScratch,
  fpuOfXsave,
  IMAGE_SIZE,
  IMAGE_SIZE_PACKED,
  looksLikeScratch,
  xsaveOfFpu,
} from '../../../src/formats/scratchvm/record.js'
import { decodeSpecialRegisters, encodeSpecialRegisters } from '../../../src/isa/x86-64-kvm.js'
import { ImagoError } from '../../../src/lib/errors.js'
import { rounds } from '../../helpers/rounds.js'
import { scratchSample } from '../../helpers/scratch-sample.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
const timer = fc.record({ left: u64, interval: u64 })
const u32 = fc.nat(0xffffffff)
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const PAGES = 64

function xsave(): Uint8Array {
  const area = new Uint8Array(832)
  new DataView(area.buffer).setBigUint64(512, 3n, true)
  return area
}

const record: fc.Arbitrary<MicroVmRecord> = fc
  .record({
    registers: fc.array(u64, { minLength: 18, maxLength: 18 }),
    special: bytes(312),
    msrs: fc.array(fc.record({ index: u32, value: u64 }), { maxLength: 8 }),
    features: fc.stringMatching(/^[a-z0-9 ]{0,40}$/),
    name: fc.stringMatching(/^[ -~\xa0-\xff]{0,60}$/),
    starts: fc.uniqueArray(fc.nat(PAGES - 2), { maxLength: 8 }),
    files: fc.array(
      fc.record({
        kind: fc.nat(8),
        flags: u32,
        mode: u32,
        offset: u64,
        size: u64,
        mtime: u64,
        digest: bytes(32),
      }),
      { maxLength: 6 },
    ),
    signals: fc.array(
      fc.record({
        signal: fc.integer({ min: 1, max: 64 }),
        handler: u64,
        flags: u64,
        restorer: u64,
        mask: u64,
      }),
      { maxLength: 6 },
    ),
    waitLeft: fc.bigInt({ min: -1n, max: (1n << 63n) - 1n }),
    realTimer: fc.option(timer, { nil: undefined }),
    cpuTime: fc.option(fc.record({ used: u64, virtual: timer, profiling: timer }), { nil: undefined }),
    timers: fc.option(
      fc.uniqueArray(
        fc.record({
          ...{ id: fc.nat(255), clock: fc.integer(), signal: fc.nat(64), overrun: u32 },
          ...{ value: u64, left: u64, interval: u64 },
        }),
        { maxLength: 3, selector: ({ id }) => id },
      ),
      { nil: undefined },
    ),
    pending: fc.option(
      fc.array(
        fc.record({
          ...{ signal: fc.integer({ min: 1, max: 64 }), code: fc.integer(), sender: fc.integer() },
          ...{ detail: fc.integer(), value: u64 },
        }),
        { maxLength: 3 },
      ),
      { nil: undefined },
    ),
    lock: fc.record({
      ...{ kind: fc.nat(1), exclusive: fc.nat(1) },
      ...{ start: fc.bigInt({ min: 0n, max: 1n << 61n }), length: fc.bigInt({ min: 0n, max: 1n << 61n }) },
    }),
    unknown: fc.array(
      fc.record({ kind: fc.integer({ min: 100, max: 1e6 }), bytes: fc.uint8Array({ maxLength: 50 }) }),
      { maxLength: 1 },
    ),
  })
  .map(given => {
    const registers = BigUint64Array.from(given.registers)
    registers[16] = 0x1000n
    registers[17] = 2n
    const regular = given.files.findIndex(({ kind }) => fileKinds[kind] === 'regular')
    const starts = [...given.starts].sort((a, b) => a - b).map(page => BigInt(page) * 4096n)
    return {
      memoryBytes: BigInt(PAGES * 4096),
      usableBytes: BigInt((PAGES - 1) * 4096),
      cpu: {
        registers,
        special: given.special,
        msrs: given.msrs,
        xcr0: 7n,
        xsave: xsave(),
        features: given.features,
      },
      process: {
        engine: 'kvm',
        name: given.name,
        rootFolder: '/r',
        workingDirectory: '/',
        readOnly: false,
        umask: 18,
        brkStart: 4096n,
        brk: 8192n,
        clearTid: 1n,
        signalMask: 2n,
        pendingSignals: 3n,
        alternateStack: { address: 4n, size: 5n, flags: -1 },
        waitLeft: given.waitLeft,
        savedAt: 6n,
      },
      signals: given.signals,
      mappings: starts.map(start => ({ start, end: start + 4096n, protection: 3, name: given.name })),
      files: given.files.map(({ digest, ...file }) => ({
        ...file,
        pipe: -1,
        writtenFrom: 0n,
        contentOffset: 0n,
        contentLength: 0n,
        contentDigest: digest,
        path: '/a',
        name: given.name,
      })),
      descriptors: given.files.map((_, i) => ({ fd: i + 3, file: i, closeOnExec: i % 2 })),
      extents: starts.map(address => ({ address, length: 4096n, crc: 7 })),
      ...(given.realTimer === undefined ? {} : { realTimer: given.realTimer }),
      ...(given.cpuTime === undefined ? {} : { cpuTime: given.cpuTime }),
      ...(given.timers === undefined ? {} : { timers: given.timers }),
      ...(given.pending === undefined ? {} : { pending: given.pending }),
      ...(regular < 0 ? {} : { locks: [{ file: regular, ...given.lock }] }),
      unknown: given.unknown,
    } satisfies MicroVmRecord
  })

test('a header decoded and encoded again is the same, byte for byte', () => {
  fc.assert(
    fc.property(record, fc.nat(3), (given, extra) => {
      const header = encodeHeader({ ...given, leastHeader: extra * 8192 })
      const decoded = decodeHeader(header)
      expect(decoded.files).toEqual(given.files)
      expect(decoded.process).toEqual(given.process)
      expect(decoded.mappings).toEqual(given.mappings)
      expect(Buffer.compare(encodeHeader(decoded), header)).toBe(0)
    }),
  )
})

test('special registers survive a round trip, padding aside', () => {
  fc.assert(
    fc.property(bytes(312), given => {
      const once = encodeSpecialRegisters(decodeSpecialRegisters(given))
      expect(encodeSpecialRegisters(decodeSpecialRegisters(once))).toEqual(once)
    }),
  )
})

test('a damaged image is refused with a reason, whichever byte it is', () => {
  const folder = temporaryFolder()
  const [given] = fc.sample(
    record.filter(r => r.extents.length > 3),
    { seed: 5, numRuns: 1 },
  )
  const memory = new Uint8Array(PAGES * 4096)
  const header = Buffer.from(encodeHeader({ ...given!, extents: [] }))
  const image = Buffer.concat([header, memory])
  const file = path.join(folder, 'image')
  let state = 12345
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return state % below
  }
  for (let round = 0; round < rounds(10_000, 1500); round++) {
    const mutated = Buffer.from(image)
    for (let i = 0; i <= random(3); i++) mutated[random(header.length)]! ^= 1 << random(8)
    const cut = random(4) === 0 ? mutated.subarray(0, random(mutated.length)) : mutated
    if (cut.equals(image)) continue
    fs.writeFileSync(file, cut)
    let problem: unknown
    try {
      openMicroVmFile(file).source.close()
    } catch (error) {
      problem = error
    }
    expect(problem).toBeInstanceOf(ImagoError)
  }
}, 600_000)

test('a header with a right checksum and any content is read or refused, and never crashes', () => {
  fc.assert(
    fc.property(
      record,
      fc.array(fc.tuple(fc.nat(4000), fc.nat(255)), { minLength: 1, maxLength: 8 }),
      (given, changes) => {
        // What decode makes of wrong fields behind a right checksum: re-encode with changed sections.
        const header = encodeHeader(given)
        for (const [at, value] of changes) if (at >= 72 && at < header.length) header[at] = value
        try {
          decodeHeader(resign(header))
        } catch (error) {
          expect(error).toBeInstanceOf(ImagoError)
        }
      },
    ),
    { numRuns: rounds(10_000, 500) },
  )
}, 600_000)

function resign(header: Uint8Array): Uint8Array {
  header.fill(0, 40, 72)
  header.set(new Uint8Array(crypto.createHash('sha256').update(header).digest()), 40)
  return header
}

test('verify names memory that is not what was saved', () => {
  const folder = temporaryFolder()
  const [given] = fc.sample(
    record.filter(r => r.extents.length > 1),
    { seed: 6, numRuns: 1 },
  )
  const file = path.join(folder, 'image')
  fs.writeFileSync(
    file,
    Buffer.concat([encodeHeader({ ...given!, files: [], descriptors: [] }), new Uint8Array(PAGES * 4096)]),
  )
  expect(verifyMicroVmFile(file)[0]).toContain('is not what was saved')
})

test('a ScratchVM image, padded or packed, survives a round trip byte for byte', () => {
  for (const size of [IMAGE_SIZE, IMAGE_SIZE_PACKED]) {
    const image = new Uint8Array(size)
    for (let i = 0; i < size; i++) image[i] = (i * 131) >>> 3
    const view = new DataView(image.buffer)
    view.setUint32(456, 3, true)
    view.setBigUint64(1392, 61440n, true)
    view.setBigUint64(1400, 0n, true)
    image[984_448] = 2
    expect(looksLikeScratch(size, image.subarray(0, 4096))).toBe(true)
    expect(Buffer.compare(encodeScratch(decodeScratch(image)), image)).toBe(0)
    view.setUint32(456, 33, true)
    expect(() => decodeScratch(image)).toThrow('too many MSRs')
  }
})

test('any ScratchVM image is refused with a reason, or comes out as it went in', () => {
  const sample = scratchSample()
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.array(fc.tuple(fc.oneof(fc.nat(1407), fc.integer({ min: 984_448, max: 1_002_368 })), fc.nat(255)), {
        minLength: 1,
        maxLength: 40,
      }),
      (packed, changes) => {
        const image = packed ? scratchSample({ packed }) : Buffer.from(sample)
        for (const [at, value] of changes) image[at] = value
        try {
          expect(Buffer.compare(encodeScratch(decodeScratch(image)), image)).toBe(0)
        } catch (error) {
          expect(error).toBeInstanceOf(ImagoError)
        }
      },
    ),
    { numRuns: rounds(2000, 100) },
  )
}, 600_000)

test('x87 and SSE state survives the way to struct kvm_fpu and back', () => {
  fc.assert(
    fc.property(bytes(576), given => {
      const legacy = given.slice()
      new DataView(legacy.buffer).setUint32(24, 0x1f80, true)
      const back = xsaveOfFpu(fpuOfXsave(legacy))
      expect(back.subarray(32, 416 - 0).subarray(0, 128)).toEqual(legacy.subarray(32, 160))
      expect(back.subarray(160, 416)).toEqual(legacy.subarray(160, 416))
    }),
  )
})
