/** RAM above the hole below 4 GiB: two ranges in the model, two stores in gem5, one block in QEMU, refused by Palacios. */
import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { CheckpointText } from '../../../src/formats/gem5/checkpoint-text.js'
import { readGem5, writeGem5 } from '../../../src/formats/gem5/machine.js'
import { writePalacios } from '../../../src/formats/palacios/machine.js'
import { readQemu, writeQemu } from '../../../src/formats/qemu/machine.js'
import type { MachineImage } from '../../../src/model/machine.js'
import { ramRanges } from '../../../src/model/machine-memory.js'
import { type Extent, Memory, ZERO } from '../../../src/model/memory.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { qemuSample } from './samples.js'

const GIB = 2 ** 30
const FOUR_GIB = 4n * BigInt(GIB)

const mark = (address: bigint, text: string): Extent => ({
  address,
  length: text.length,
  content: { kind: 'bytes', bytes: Buffer.from(text) },
})
/** RAM of these ranges, a mark at the begin and the end of each. */
const ram = (...ranges: readonly (readonly [start: bigint, bytes: number])[]) =>
  Memory.from(ranges.map(([address, length]) => ({ address, length, content: ZERO }))).overlay(
    ranges.flatMap(([start, bytes], i) => [
      mark(start + 64n, `begin ${i}`),
      mark(start + BigInt(bytes) - 64n, `end ${i}`),
    ]),
  )
const textAt = (memory: Memory, address: bigint, length: number) =>
  Buffer.from(memory.read(address, length)).toString()

const machine = async (memory: Memory): Promise<MachineImage> => ({
  ...(await readQemu(qemuSample('timer', temporaryFolder()))),
  memory,
})
const plain = { rawRam: true, ignoreFeatures: false } as const
const target = () => path.join(temporaryFolder(), 'out')

describe('gem5', () => {
  test('two ranges are two stores, and the script has the RAM of both', async () => {
    const image = await machine(ram([0n, 3 * GIB], [FOUR_GIB, GIB]))
    const out = target()
    await writeGem5(image, out, { ...plain, era: 'v24' })
    const text = CheckpointText.read(path.join(out, 'm5.cpt'))
    expect(text.get('system.physmem', 'nbr_of_stores')).toBe('2')
    expect(text.get('system.physmem.store0', 'range_size')).toBe(String(3 * GIB))
    expect(text.get('system.physmem.store1', 'range_size')).toBe(String(GIB))
    expect(fs.readFileSync(path.join(out, 'restore.py'), 'utf8')).toContain(`RAM_BYTES = ${4 * GIB}\n`)
    const { memory } = await readGem5(out)
    expect(ramRanges(memory)).toEqual(ramRanges(image.memory))
    expect(textAt(memory, 64n, 7)).toBe('begin 0')
    expect(textAt(memory, FOUR_GIB + 64n, 7)).toBe('begin 1')
    expect(textAt(memory, FOUR_GIB + BigInt(GIB) - 64n, 5)).toBe('end 1')
  })

  test('RAM between 3 and 4 GiB is refused: gem5 has its devices there', async () => {
    for (const image of [
      await machine(ram([0n, 3 * GIB + 2 ** 20])),
      await machine(ram([0n, 2 * GIB], [FOUR_GIB, GIB])),
    ]) {
      const out = target()
      await expect(writeGem5(image, out, { ...plain, era: 'v24' })).rejects.toThrow(/no such RAM/)
      expect(fs.existsSync(out)).toBe(false)
    }
  })

  test('the layout of 2011 has one piece of RAM', async () => {
    const image = await machine(ram([0n, 3 * GIB], [FOUR_GIB, GIB]))
    await expect(writeGem5(image, target(), { ...plain, era: '2011' })).rejects.toThrow(/no such RAM/)
  })
})

test('Palacios refuses RAM with a hole', async () => {
  const image = await machine(ram([0n, 3 * GIB], [FOUR_GIB, GIB]))
  await expect(
    writePalacios(image, target(), { timing: { apicClock: 1e9, paging: undefined } }),
  ).rejects.toThrow(/hole/)
})

test('16. RAM must be equal: QEMU names both amounts where the template has another', async () => {
  const image = await machine(ram([0n, 3 * GIB], [FOUR_GIB, GIB]))
  const template = qemuSample('busy', temporaryFolder())
  await expect(writeQemu(image, target(), { template })).rejects.toMatchObject({
    details: { found: '3072 MiB at 0x0, 1024 MiB at 0x100000000', expected: '32 MiB at 0x0' },
  })
})
