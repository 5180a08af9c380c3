/** Processes for gem5's SE mode: what is refused, and where stack and new areas come to lie. */
import path from 'node:path'
import { expect, test } from 'vitest'
import { CheckpointText } from '../../../src/formats/gem5/checkpoint-text.js'
import { writeGem5Process } from '../../../src/formats/gem5/process.js'
import { Memory, ZERO } from '../../../src/model/memory.js'
import type { Process, X86VectorState } from '../../../src/model/process.js'
import { someImage, someMapping, someProcess, someThread } from '../../helpers/process-image.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

/** `key` of the process in the checkpoint that `process` becomes. */
async function written(process: Process): Promise<(key: string) => bigint> {
  const target = path.join(temporaryFolder(), 'se')
  await writeGem5Process(someImage([process]), target, {})
  const text = CheckpointText.read(path.join(target, 'm5.cpt'))
  return key => BigInt(text.get('system.cpu.workload', key)!)
}

const STACK_END = 0x7ffffffff000n
const heap = someMapping(0x500000n, 0x600000n, { kind: 'heap', write: true })
const withStack = (mebibytes: bigint) => {
  const stack = someMapping(STACK_END - (mebibytes << 20n), STACK_END, { kind: 'stack' })
  const memory = Memory.from([{ address: stack.start, length: 4096, content: ZERO }])
  return someProcess({ mappings: [heap, stack], memory })
}

test.each([
  1n,
  64n,
  200n,
])('a stack of %d MiB keeps its place; new areas are placed below where it may grow', async size => {
  const get = await written(withStack(size))
  expect(get('stackBase')).toBe(STACK_END)
  expect(get('stackSize')).toBe(size << 20n)
  expect(get('stackMin')).toBe(STACK_END - (size << 20n))
  const most = size > 64n ? size : 64n
  expect(get('maxStackSize')).toBe(most << 20n)
  expect(get('mmapEnd')).toBe(STACK_END - (most << 20n))
})

const withVector = (component: number, byte: number) => {
  const vector: X86VectorState = {
    isa: 'x86-64',
    fxsave: new Uint8Array(512),
    inUse: 1n << BigInt(component),
    components: new Map([[component, new Uint8Array(512).fill(byte)]]),
  }
  const thread = someThread()
  return someProcess({
    mappings: [heap],
    threads: [{ ...thread, registers: { ...thread.registers, vector } }],
  })
}

test.each([
  ['YMM', 2],
  ['AVX-512 masks', 5],
  ['ZMM, upper halves', 6],
  ['ZMM16–31', 7],
])('%s in use are refused, with how to run it without; unused they are not', async (_, component) => {
  await expect(written(withVector(component, 1))).rejects.toThrow(/AVX registers in use/)
  await written(withVector(component, 0))
})

test('threads and several processes are refused', async () => {
  const threads = [someThread(), someThread({ tid: 101 })]
  await expect(written(someProcess({ mappings: [heap], threads }))).rejects.toThrow(/one thread/)
  const two = someImage([someProcess(), someProcess({ pid: 101 })])
  await expect(writeGem5Process(two, path.join(temporaryFolder(), 'se'), {})).rejects.toThrow(/one process/)
})
