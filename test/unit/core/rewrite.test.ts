/** A core that becomes another one in place: whatever changes, and wherever the writer is cut, the file is one of the two. */
import fs from 'node:fs'
import path from 'node:path'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { readRawCore } from '../../../src/formats/core/raw.js'
import { read } from '../../../src/formats/core/read.js'
import { prstatusRegisters } from '../../../src/formats/core/standard-notes.js'
import { verify } from '../../../src/formats/core/verify.js'
import { copyPlain, rewrite, write } from '../../../src/formats/core/write.js'
import { UsageError } from '../../../src/lib/errors.js'
import { lockFile } from '../../../src/lib/libc.js'
import { type Extent, Memory, PAGE_SIZE, PAGE_SIZE_BIG } from '../../../src/model/memory.js'
import type { ProcessImage } from '../../../src/model/process.js'
import { diffProcessImages } from '../../../src/model/process-diff.js'
import { someImage, someMapping, someProcess, someThread } from '../../helpers/process-image.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const HEAP = 0x100000n
/** So many pages that a change in them is no reason to write them anew. */
const PAGES = 600
const STACK = 0x7000_0000n

const page = (fill: number): Uint8Array => new Uint8Array(PAGE_SIZE).fill(fill)
const pageAt = (number: number) => HEAP + BigInt(number) * PAGE_SIZE_BIG
const bytesAt = (address: bigint, bytes: Uint8Array): Extent => ({
  address,
  length: bytes.length,
  content: { kind: 'bytes', bytes },
})

/** A large heap of which page n is filled with n, every seventh page zeros; and a stack. */
async function writeSample(file: string): Promise<void> {
  const stackEnd = STACK + 16n * PAGE_SIZE_BIG
  const mappings = [
    someMapping(HEAP, pageAt(PAGES), { write: true }),
    someMapping(STACK, stackEnd, { write: true, kind: 'stack' }),
  ]
  const pages = Array.from({ length: PAGES }, (_, n) => bytesAt(pageAt(n), page(n % 7 === 0 ? 0 : n % 251)))
  const general = new Map(prstatusRegisters['x86-64'].map(name => [name, 0n]))
  general.set('rsp', stackEnd - 256n)
  const threads = [someThread({ registers: { general, vector: undefined } })]
  const memory = Memory.from([...pages, bytesAt(stackEnd - PAGE_SIZE_BIG, page(9))])
  await write(someImage([someProcess({ mappings, memory, threads })]), file, { options: {} })
}

function withMemory(image: ProcessImage, change: (memory: Memory) => Memory): ProcessImage {
  const process = image.processes[0]!
  return { ...image, processes: [{ ...process, memory: change(process.memory) }] }
}

function close(image: ProcessImage): void {
  for (const { memory } of image.processes) memory.close()
}

/** A change of some pages: other bytes, zeros, or out of the image. */
const someChange = fc.record({
  page: fc.nat(PAGES - 1),
  count: fc.integer({ min: 1, max: 40 }),
  what: fc.constantFrom('bytes', 'zeros', 'nothing'),
  fill: fc.integer({ min: 1, max: 255 }),
})
type Change = typeof someChange extends fc.Arbitrary<infer T> ? T : never

function apply(memory: Memory, changes: readonly Change[]): Memory {
  return changes.reduce((result, change) => {
    const start = pageAt(change.page)
    const end = pageAt(Math.min(PAGES, change.page + change.count))
    const length = Number(end - start)
    if (change.what === 'nothing') return result.without(start, end)
    if (change.what === 'zeros')
      return result.overlay([{ address: start, length, content: { kind: 'zero' } }])
    return result.patch(start, new Uint8Array(length).fill(change.fill))
  }, memory)
}

describe('a core rewritten in place', () => {
  test('is what a new core of the same image would be, also after several times', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(someChange, { maxLength: 6 }), { maxLength: 4 }), async times => {
        const file = path.join(temporaryFolder(), 'core')
        const plain = `${file}.plain`
        await writeSample(file)
        for (const changes of times) {
          const image = await read(file)
          const changed = withMemory(image, memory => apply(memory, changes))
          await write(changed, plain, { options: {} })
          await rewrite(changed, file)
          close(image)
          const [inPlace, anew] = [await read(file), await read(plain)]
          expect(diffProcessImages(inPlace, anew).processes).toEqual([])
          expect(await verify(file)).toEqual([])
          expect(await verify(plain)).toEqual([])
          close(inPlace)
          close(anew)
        }
      }),
      { numRuns: 12 },
    )
  })

  test('copies what changed, and nothing else', async () => {
    const file = path.join(temporaryFolder(), 'core')
    await writeSample(file)
    const before = fs.statSync(file).size
    const image = await read(file)
    await rewrite(
      withMemory(image, memory => memory.patch(pageAt(100), page(1))),
      file,
    )
    close(image)
    const moved = readRawCore(file).records.get('moved')!
    expect(moved.map(run => [run.big('start'), run.big('end')])).toEqual([[pageAt(100), pageAt(101)]])
    // A page of the heap, the notes, and no more.
    expect(fs.statSync(file).size - before).toBeLessThan(6 * PAGE_SIZE)
    // A plain copy has one place for each mapping again.
    const copy = `${file}.copy`
    await copyPlain(file, copy)
    expect(readRawCore(copy).records.has('moved')).toBe(false)
    expect(readRawCore(copy).records.get('image')![0]!.number('version')).toBe(1)
    expect(await verify(copy)).toEqual([])
    expect(diffProcessImages(await read(copy), await read(file)).processes).toEqual([])
  })

  test('is the old one or the new one, wherever the writer is cut', async () => {
    const sample = path.join(temporaryFolder(), 'core')
    await writeSample(sample)
    const calls = ['writeSync', 'ftruncateSync', 'fdatasyncSync', 'fsyncSync'] as const
    const outcomes: string[] = []
    for (let cut = 0; outcomes.at(-1) !== 'uncut'; cut++) {
      const file = path.join(temporaryFolder(), 'core')
      fs.copyFileSync(sample, file)
      const image = await read(file)
      const changed = withMemory(image, memory =>
        memory.patch(pageAt(3), page(77)).patch(pageAt(300), page(78)),
      )
      let left = cut
      // The power fails: nothing that comes after is done, no cleaning up either.
      const spies = calls.map(name => {
        const real = fs[name] as (...words: unknown[]) => unknown
        return vi.spyOn(fs, name).mockImplementation(((...words: unknown[]) => {
          if (left-- <= 0) throw new Error('the power fails')
          return real(...words)
        }) as never)
      })
      const whole = await rewrite(changed, file).then(
        () => true,
        () => false,
      )
      for (const spy of spies) spy.mockRestore()
      const after = await read(file)
      expect(await verify(file), `cut at ${cut}`).toEqual([])
      const isNew = after.processes[0]!.memory.read(pageAt(300), 1)[0] === 78
      expect(diffProcessImages(after, isNew ? changed : image).processes, `cut at ${cut}`).toEqual([])
      outcomes.push(whole ? 'uncut' : isNew ? 'new' : 'old')
      // The next one does not stumble over what was left.
      await rewrite(
        withMemory(after, memory => memory.patch(pageAt(5), page(79))),
        file,
      )
      expect(await verify(file), `again, cut at ${cut}`).toEqual([])
      close(image)
      close(after)
    }
    expect(outcomes.filter(outcome => outcome === 'old').length).toBeGreaterThan(5)
    expect(outcomes.indexOf('new')).toBe(outcomes.lastIndexOf('old') + 1)
  })

  test('is refused to two at once, and when the file is not the one that was read', async () => {
    const file = path.join(temporaryFolder(), 'core')
    await writeSample(file)
    const image = await read(file)
    onTestFinished(() => close(image))
    const before = fs.readFileSync(file)
    const other = fs.openSync(file, 'r')
    expect(lockFile(other)).toBe(true)
    await expect(rewrite(image, file)).rejects.toThrow(/somebody else/)
    fs.closeSync(other)
    expect(fs.readFileSync(file).equals(before)).toBe(true)
    fs.copyFileSync(file, `${file}.copy`)
    fs.renameSync(`${file}.copy`, file)
    await expect(rewrite(image, file)).rejects.toThrow(UsageError)
    expect(fs.readFileSync(file).equals(before)).toBe(true)
  })
})
