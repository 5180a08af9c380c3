import fc from 'fast-check'
import { expect, test } from 'vitest'
import { translateOpenFlags } from '../../../src/isa/isa.js'
import { isas } from '../../../src/isa/isas.js'
import { Memory } from '../../../src/model/memory.js'
import { threadStack, translateThreadRecord } from '../../../src/retarget/thread-record.js'

const x86 = isas['x86-64']
const arm = isas.aarch64
const RECORD = 0x10000n
const segment = { memorySize: 48, alignment: 16 }
const DTV = 0x20000n

/** A thread of x86-64: storage below the record, one module in the dtv. */
function threadOf(content: Uint8Array, storage: Uint8Array): Memory {
  const record = content.slice()
  const view = new DataView(record.buffer)
  view.setBigUint64(0, RECORD, true)
  view.setBigUint64(8, DTV, true)
  view.setBigUint64(136, RECORD + 136n, true) // robust_list.head: an empty list points to itself
  const dtv = new Uint8Array(16)
  new DataView(dtv.buffer).setBigUint64(0, 1n, true)
  new DataView(dtv.buffer).setBigUint64(8, RECORD - 48n, true)
  return Memory.empty
    .patch(RECORD - 48n, storage)
    .patch(RECORD, record)
    .patch(RECORD + 200n, new Uint8Array(128))
    .patch(DTV, dtv)
}

const apply = (memory: Memory, patches: ReturnType<typeof translateThreadRecord>) =>
  patches.reduce((result, { address, bytes }) => result.patch(address, bytes), memory)

test('a record keeps every field on the way to aarch64 and back, and storage moves to the other side', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 200, maxLength: 200 }),
      fc.uint8Array({ minLength: 48, maxLength: 48 }),
      (content, storage) => {
        const before = threadOf(content, storage)
        const there = apply(before, translateThreadRecord(before, RECORD, segment, x86, arm))
        expect(there.read(RECORD + 216n, 48)).toEqual(storage)
        expect(there.readU64(DTV + 8n)).toBe(RECORD + 216n)
        expect(there.readU64(RECORD + 192n)).toBe(DTV)
        expect(there.readU64(RECORD + 184n)).toBe(before.readU64(RECORD + 40n)) // the canary
        expect(there.readU64(RECORD + 120n)).toBe(RECORD + 120n) // robust_list.head moved with itself
        expect(threadStack(there, RECORD, arm)).toEqual(threadStack(before, RECORD, x86))
        const back = apply(there, translateThreadRecord(there, RECORD, segment, arm, x86))
        expect(back.read(RECORD, 200)).toEqual(before.read(RECORD, 200))
        expect(back.read(RECORD - 48n, 48)).toEqual(storage)
        expect(back.readU64(DTV + 8n)).toBe(RECORD - 48n)
      },
    ),
  )
})

test('a record that does not begin with its own address is not one of musl', () => {
  const memory = Memory.empty.patch(RECORD, new Uint8Array(200))
  expect(() => translateThreadRecord(memory, RECORD, segment, x86, arm)).toThrow(/thread record of musl/)
})

test('open flags change their numbers and nothing else, both ways', () => {
  // O_RDWR|O_DIRECTORY|O_CLOEXEC of bits/fcntl.h of each ISA
  expect(translateOpenFlags(0o2200002, x86, arm)).toBe(0o2040002)
  expect(translateOpenFlags(0o400000, x86, arm)).toBe(0o100000) // O_NOFOLLOW
  expect(translateOpenFlags(0o40000, x86, arm)).toBe(0o200000) // O_DIRECT
  fc.assert(
    fc.property(fc.nat(0o7777777), flags => {
      expect(translateOpenFlags(translateOpenFlags(flags, x86, arm), arm, x86)).toBe(flags)
    }),
  )
})

test('rounding and flushing survive the change of control registers', () => {
  const place = { programCounter: 1n, stackPointer: 2n, framePointer: 3n, threadPointer: 4n }
  for (const rounding of ['nearest', 'down', 'up', 'zero'] as const)
    for (const flushToZero of [false, true]) {
      const control = { rounding, flushToZero }
      expect(x86.floatingControl(x86.freshRegisters(place, control))).toEqual(control)
      expect(arm.floatingControl(arm.freshRegisters(place, control))).toEqual(control)
    }
})
