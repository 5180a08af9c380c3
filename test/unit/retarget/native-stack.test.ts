import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Memory } from '../../../src/model/memory.js'
import type { IsaName } from '../../../src/model/process.js'
import { buildNativeStack, nativeStackSize, walkShadowFrames } from '../../../src/retarget/native-stack.js'
import { program, shadowBytes } from './program.js'

const BASE = 0x1000_0010_0000n
const TOP = 0x7fff_0000n
const LEAVE = 0x400100n

function framesOf(ids: readonly number[]) {
  const bytes = shadowBytes(ids)
  const pointer = BASE - BigInt(bytes.length)
  return walkShadowFrames(Memory.empty.patch(pointer, bytes), pointer, BASE, program)
}

describe('the native stack of a thread', () => {
  test('two frames on each ISA lie where the drawing says', () => {
    const frames = framesOf([7, 1])
    expect(frames.map(frame => frame.function.name)).toEqual(['solve', 'main'])
    const x86 = buildNativeStack(frames, 'x86-64', TOP, LEAVE)
    expect(x86.stackPointer).toBe(TOP - 64n)
    expect(x86.programCounter).toBe(0x401190n)
    const words = new BigUint64Array(x86.bytes.slice().buffer)
    // solve's record: main's frame pointer, and where main's call returns to; then main's: none, and the end of the thread.
    expect([words[0], words[1]]).toEqual([TOP - 16n, 0x401010n])
    expect([words[6], words[7]]).toEqual([0n, LEAVE])
    expect(x86.framePointer).toBe(TOP - 64n)

    const arm = buildNativeStack(frames, 'aarch64', TOP, LEAVE)
    expect(arm.stackPointer).toBe(TOP - 80n)
    expect(arm.framePointer).toBe(TOP - 80n)
    const pairs = new BigUint64Array(arm.bytes.slice().buffer)
    expect([pairs[0], pairs[1]]).toEqual([TOP - 32n, 0x401024n])
    expect([pairs[6], pairs[7]]).toEqual([0n, LEAVE])
  })

  test('following frame pointers finds every return address, innermost first, and ends at leave', () => {
    const isaNames: IsaName[] = ['x86-64', 'aarch64']
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(1, 2, 7), { minLength: 1, maxLength: 50 }),
        fc.constantFrom(...isaNames),
        (ids, isa) => {
          const frames = framesOf(ids)
          const stack = buildNativeStack(frames, isa, TOP, LEAVE)
          expect(stack.bytes.length).toBe(nativeStackSize(frames, isa))
          expect(stack.stackPointer % 16n).toBe(0n)
          const view = new DataView(stack.bytes.buffer)
          const found: bigint[] = [stack.programCounter]
          for (let at = stack.framePointer; at !== 0n; ) {
            const offset = Number(at - stack.start)
            found.push(view.getBigUint64(offset + 8, true))
            at = view.getBigUint64(offset, true)
          }
          expect(found).toEqual([...frames.map(frame => frame.site.returnAddress[isa]), LEAVE])
        },
      ),
    )
  })
})

describe('a shadow stack that is damaged is refused', () => {
  test('an unknown site', () => {
    const bytes = shadowBytes([1])
    bytes[0] = 99
    const memory = Memory.empty.patch(BASE - 32n, bytes)
    expect(() => walkShadowFrames(memory, BASE - 32n, BASE, program)).toThrow(/no site of the program/)
  })
  test('frames that do not end at the base', () => {
    const memory = Memory.empty.patch(BASE - 32n, shadowBytes([7]))
    expect(() => walkShadowFrames(memory, BASE - 32n, BASE, program)).toThrow(/beyond its base/)
  })
  test('a pointer above the base', () => {
    expect(() => walkShadowFrames(Memory.empty, BASE + 16n, BASE, program)).toThrow(/not below its base/)
  })
  test('any bytes at all: an error of ours or frames, never a crash or a long wait', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 400 }), bytes => {
        const pointer = BASE - BigInt(bytes.length)
        try {
          walkShadowFrames(Memory.empty.patch(pointer, bytes), pointer, BASE, program)
        } catch (error) {
          expect((error as Error).name).toBe('UnreadableError')
        }
      }),
    )
  })
})
