import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { readCriu } from '../../../src/formats/criu/read.js'
import { writeCriu } from '../../../src/formats/criu/write.js'
import type { ProcessImage } from '../../../src/model/process.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const samples = path.join(import.meta.dirname, '../../data/criu')
const at = (folder: string, name: string) => fs.readFileSync(path.join(folder, name))

/** The image of `isa` with its only process changed. */
async function changed(isa: string, change: (image: ProcessImage) => Partial<ProcessImage>) {
  const image = await readCriu(path.join(samples, isa))
  const target = path.join(temporaryFolder(), 'dump')
  await writeCriu({ ...image, ...change(image) }, target)
  return { image, target, again: await readCriu(target) }
}

describe.each(['x86-64', 'aarch64'])('writing a CRIU image (%s)', isa => {
  test('an image that nothing changed is written to the byte', async () => {
    const { target } = await changed(isa, () => ({}))
    const source = path.join(samples, isa)
    const names = fs.readdirSync(source).filter(name => name.endsWith('.img'))
    expect(fs.readdirSync(target).sort()).toEqual(names.sort())
    for (const name of names)
      expect([name, Buffer.compare(at(target, name), at(source, name))]).toEqual([name, 0])
  })

  test('a patch of memory arrives, everything else stays', async () => {
    const where = isa === 'x86-64' ? 0x408004n : 0x420004n
    const { image, again } = await changed(isa, ({ processes: [process] }) => ({
      processes: [{ ...process!, memory: process!.memory.patch(where, Uint8Array.from([1, 2, 3])) }],
    }))
    const before = image.processes[0]!.memory
    const after = again.processes[0]!.memory
    expect(after.byteCount).toBe(
      Number(
        new Set(
          [...before.extents, { address: where, length: 3 }].flatMap(({ address, length }) =>
            Array.from({ length: Math.ceil(length / 4096) }, (_, i) => (address & ~4095n) + BigInt(4096 * i)),
          ),
        ).size * 4096,
      ),
    )
    expect([...after.read(where, 3)]).toEqual([1, 2, 3])
    for (const extent of before.extents) {
      const bytes = before.read(extent.address, extent.length)
      const inside = Number(where - extent.address)
      if (inside >= 0 && inside < extent.length) bytes.set([1, 2, 3], inside)
      expect(Buffer.compare(after.read(extent.address, extent.length), bytes)).toBe(0)
    }
  })

  test('a changed register, signal mask and layout arrive', async () => {
    const { again } = await changed(isa, ({ processes: [process] }) => {
      const [thread] = process!.threads
      const general = new Map(thread!.registers.general).set(isa === 'x86-64' ? 'rbx' : 'x19', 0x1234n)
      const changedThread = { ...thread!, registers: { ...thread!.registers, general } }
      return {
        processes: [
          {
            ...process!,
            name: 'renamed',
            threads: [changedThread],
            layout: { ...process!.layout, brk: 0x99000n },
          },
        ],
      }
    })
    const process = again.processes[0]!
    expect(process.threads[0]!.registers.general.get(isa === 'x86-64' ? 'rbx' : 'x19')).toBe(0x1234n)
    expect(process.name).toBe('renamed')
    expect(process.layout.brk).toBe(0x99000n)
  })

  test('an image of no CRIU origin gets all records that CRIU needs', async () => {
    const { target, image, again } = await changed(isa, ({ origin }) => ({
      origin: { format: 'core', path: origin.path, notes: {} },
    }))
    expect(fs.readdirSync(target)).toContain('inventory.img')
    expect(again.processes[0]).toMatchObject({
      pid: image.processes[0]!.pid,
      executable: image.processes[0]!.executable,
      workingDirectory: '/w',
      threads: image.processes[0]!.threads,
      mappings: image.processes[0]!.mappings,
      limits: image.processes[0]!.limits,
      signalActions: image.processes[0]!.signalActions,
    })
    expect([...again.descriptions.values()]).toEqual([...image.descriptions.values()])
  })

  test('a failure leaves no folder behind', async () => {
    const image = await readCriu(path.join(samples, isa))
    const folder = temporaryFolder()
    const broken = { ...image.processes[0]!, pid: -1 }
    await expect(writeCriu({ ...image, processes: [broken] }, path.join(folder, 'dump'))).rejects.toThrow(
      /pid/,
    )
    expect(fs.readdirSync(folder)).toEqual([])
  })
})
