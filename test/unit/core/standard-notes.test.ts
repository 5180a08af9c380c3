import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import * as notes from '../../../src/formats/core/standard-notes.js'
import type { IsaName } from '../../../src/model/process.js'

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const i32 = fc.integer()

describe('notes of an ELF core come back as they were written', () => {
  test.each([
    ['x86-64', 336],
    ['aarch64', 392],
  ] as const)('NT_PRSTATUS of %s, %d bytes', (isa: IsaName, size) => {
    const names = notes.prstatusRegisters[isa]
    const someStatus = fc.record({
      signal: fc.nat(64),
      pendingSignals: u64,
      signalMask: u64,
      tid: i32,
      parent: i32,
      processGroup: i32,
      session: i32,
      times: fc.array(u64, { minLength: 8, maxLength: 8 }),
      registers: fc
        .array(u64, { minLength: names.length, maxLength: names.length })
        .map(values => new Map(names.map((name, i) => [name, values[i]!]))),
    })
    fc.assert(
      fc.property(someStatus, status => {
        const bytes = notes.writeThreadStatus(status, isa)
        expect(bytes.length).toBe(size)
        expect(notes.readThreadStatus(bytes, isa)).toEqual(status)
      }),
    )
  })

  test('NT_PRPSINFO', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'B', ' ', 'é'), maxLength: 7 })
    const someInfo = fc.record({
      state: fc.constantFrom('R', 'S', 'T', 'Z'),
      nice: fc.integer({ min: -20, max: 19 }),
      uid: fc.nat(),
      gid: fc.nat(),
      pid: i32,
      parent: i32,
      processGroup: i32,
      session: i32,
      name: word,
      arguments: word,
    })
    fc.assert(
      fc.property(someInfo, info => {
        const bytes = notes.writeProcessInfo(info)
        expect(bytes.length).toBe(136)
        expect(notes.readProcessInfo(bytes)).toEqual(info)
      }),
    )
  })

  test('NT_AUXV', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            u64.filter(type => type !== 0n),
            u64,
          ),
        ),
        pairs => {
          expect(notes.readAuxv(notes.writeAuxv(pairs))).toEqual(pairs)
        },
      ),
    )
  })

  test('NT_FILE', () => {
    const path = fc.string({ unit: fc.constantFrom('/', 'a', 'ü'), minLength: 1 })
    const pages = fc.bigInt({ min: 0n, max: 2n ** 40n }).map(page => page * 4096n)
    fc.assert(
      fc.property(fc.array(fc.record({ start: u64, end: u64, offset: pages, path })), files => {
        expect(notes.readMappedFiles(notes.writeMappedFiles(files))).toEqual(files)
      }),
    )
  })

  test('NT_X86_XSTATE keeps every component that gdb knows', () => {
    const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
    fc.assert(
      fc.property(
        bytes(512),
        fc.option(bytes(256)),
        fc.option(bytes(64)),
        fc.option(bytes(1024)),
        (fxsave, avx, opmask, hi16) => {
          const components = new Map<number, Uint8Array>()
          for (const [number, content] of [
            [2, avx],
            [5, opmask],
            [7, hi16],
          ] as const)
            if (content) components.set(number, content)
          fxsave.fill(0, 464, 512)
          const read = notes.readXsave(notes.writeXsave({ isa: 'x86-64', fxsave, inUse: 0xe7n, components }))
          expect([...read.components.keys()]).toEqual([...components.keys()])
          for (const [number, content] of components)
            expect([...read.components.get(number)!]).toEqual([...content])
          expect([...read.fxsave.subarray(0, 464)]).toEqual([...fxsave.subarray(0, 464)])
        },
      ),
      { numRuns: 30 },
    )
  })

  test('NT_FPREGSET of aarch64, 528 bytes', () => {
    const v = fc.array(fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }), { minLength: 32, maxLength: 32 })
    fc.assert(
      fc.property(v, fc.nat(), fc.nat(), (v, fpsr, fpcr) => {
        const bytes = notes.writeFpsimd({ isa: 'aarch64', v, fpsr, fpcr })
        expect(bytes.length).toBe(528)
        expect(notes.readFpsimd(bytes)).toEqual({ isa: 'aarch64', v, fpsr, fpcr })
      }),
      { numRuns: 30 },
    )
  })
})
