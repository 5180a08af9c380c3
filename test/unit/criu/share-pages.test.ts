import fs from 'node:fs'
import path from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CriuDirectory } from '../../../src/formats/criu/directory.js'
import { encodeImageFile } from '../../../src/formats/criu/image-file.js'
import { kindByName } from '../../../src/formats/criu/image-kinds.js'
import { readPageMap } from '../../../src/formats/criu/read-memory.js'
import { linkPages, pagesToShare, without } from '../../../src/formats/criu/share-pages.js'
import { writePages } from '../../../src/formats/criu/write-memory.js'
import { Memory, PAGE_SIZE } from '../../../src/model/memory.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const name = 'pagemap-7.img'
const START = 0x40_0000n
const PAGES = 8192 // 32 MiB, nearly all of it a hole

function writeImage(folder: string, memory: Memory, base?: CriuDirectory): CriuDirectory {
  fs.mkdirSync(folder, { recursive: true })
  const shared = base === undefined ? [] : pagesToShare(memory, readPageMap(base, name))
  if (shared.length > 0) linkPages(base!, name, path.join(folder, 'parent'))
  const kind = kindByName.get('PAGEMAP')!
  const entries = writePages(folder, 1, without(memory, shared), shared)
  fs.writeFileSync(path.join(folder, name), encodeImageFile({ kind, framing: kind.framing, entries }))
  return new CriuDirectory(folder)
}

const patches = fc.array(
  fc.record({
    address: fc.integer({ min: 0, max: PAGES * PAGE_SIZE - 20_000 }),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 20_000 }),
  }),
  { maxLength: 6 },
)
type Patch = { address: number; bytes: Uint8Array }

const patched = (memory: Memory, list: readonly Patch[]) =>
  list.reduce((rest, { address, bytes }) => rest.patch(START + BigInt(address), bytes), memory)

/** What is around every patch, and at the ends. */
function look(memory: Memory, list: readonly Patch[]): string {
  const places = [
    0,
    PAGES * PAGE_SIZE - 8,
    ...list.flatMap(({ address }) => [address - (address % 4096), address]),
  ]
  return places.map(at => Buffer.from(memory.read(START + BigInt(at), 8)).toString('hex')).join(' ')
}

describe('pages shared with the image they were read from', () => {
  it('read back as they were, three images deep, also when the older images are gone', () => {
    fc.assert(
      fc.property(patches, patches, patches, (first, second, third) => {
        const folder = temporaryFolder()
        const zeros = Memory.from([{ address: START, length: PAGES * PAGE_SIZE, content: { kind: 'zero' } }])
        let directory = writeImage(path.join(folder, '0'), patched(zeros, first))
        const all = [...first]
        for (const [i, list] of [second, third].entries()) {
          const before = readPageMap(directory, name)
          const memory = patched(before, list)
          all.push(...list)
          const expected = look(memory, all)
          const next = writeImage(path.join(folder, String(i + 1)), memory, directory)
          directory.close()
          fs.rmSync(directory.path, { recursive: true })
          directory = next
          const back = readPageMap(directory, name)
          expect(look(back, all)).toBe(expected)
          expect(back.byteCount).toBe(memory.byteCount)
          // Only the pages that a patch touched are written.
          const touched = list.reduce((sum, { bytes }) => sum + Math.ceil(bytes.length / PAGE_SIZE) + 1, 0)
          expect(fs.statSync(path.join(directory.path, 'pages-1.img')).size).toBeLessThanOrEqual(
            touched * PAGE_SIZE,
          )
        }
        directory.close()
      }),
      { numRuns: 30 },
    )
  })

  it('of a small image are copied, so that it is one flat folder', () => {
    const folder = temporaryFolder()
    const zeros = Memory.from([{ address: START, length: 4 * PAGE_SIZE, content: { kind: 'zero' } }])
    const directory = writeImage(path.join(folder, '0'), zeros)
    writeImage(path.join(folder, '1'), patched(readPageMap(directory, name), []), directory)
    expect(fs.readdirSync(path.join(folder, '1')).sort()).toEqual([name, 'pages-1.img'])
  })
})
