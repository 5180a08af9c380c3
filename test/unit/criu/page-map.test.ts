import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { CriuDirectory } from '../../../src/formats/criu/directory.js'
import { encodeImageFile } from '../../../src/formats/criu/image-file.js'
import { kindByName } from '../../../src/formats/criu/image-kinds.js'
import { readCriu } from '../../../src/formats/criu/read.js'
import { readPageMap } from '../../../src/formats/criu/read-memory.js'
import { mm_entry, pagemap_entry, pagemap_head } from '../../../src/formats/criu/schema/memory.js'
import { verifyCriu } from '../../../src/formats/criu/verify.js'
import { writeCriu } from '../../../src/formats/criu/write.js'
import type { Message } from '../../../src/lib/protobuf-schema.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const PAGE = 4096
const PARENT = 1
const LAZY = 2
const PRESENT = 4
const samples = path.join(import.meta.dirname, '../../data/criu')

/** Writes a page map, and a pages file of pages that are filled with `fills`. */
function put(
  folder: string,
  name: string,
  pagesId: number,
  entries: readonly Message[],
  fills: readonly number[],
): void {
  fs.mkdirSync(folder, { recursive: true })
  const bytes = encodeImageFile({
    kind: kindByName.get('PAGEMAP')!,
    framing: 'common',
    entries: [
      { type: pagemap_head, message: { pages_id: pagesId } },
      ...entries.map(message => ({ type: pagemap_entry, message })),
    ],
  })
  fs.writeFileSync(path.join(folder, name), bytes)
  fs.writeFileSync(
    path.join(folder, `pages-${pagesId}.img`),
    Buffer.concat(fills.map(fill => Buffer.alloc(PAGE, fill))),
  )
}

const entry = (page: number, pages: number, flags: number, more: object = {}) => ({
  vaddr: BigInt(page * PAGE),
  compat_nr_pages: pages,
  flags,
  ...more,
})

/** The first byte of each page from `first` on; undefined where the image holds none. */
function pagesOf(folder: string, first: number, count: number): (number | undefined)[] {
  const memory = readPageMap(new CriuDirectory(folder), 'pagemap-1.img')
  return Array.from({ length: count }, (_, i) => memory.tryRead(BigInt((first + i) * PAGE), 1)?.[0])
}

describe('page maps', () => {
  test('present pages lie one after another in the pages file; absent and lazy ones do not', () => {
    const folder = temporaryFolder()
    put(
      folder,
      'pagemap-1.img',
      3,
      [entry(1, 2, PRESENT), entry(4, 1, LAZY), entry(6, 1, PRESENT | LAZY)],
      [1, 2, 3],
    )
    expect(pagesOf(folder, 0, 8)).toEqual([undefined, 1, 2, undefined, undefined, undefined, 3, undefined])
  })

  test('the count is in the field of CRIU 4.1 or in that of 4.2', () => {
    const folder = temporaryFolder()
    put(folder, 'pagemap-1.img', 1, [entry(1, 0, PRESENT, { nr_pages: 2n }), entry(9, 1, PRESENT)], [1, 2, 3])
    expect(pagesOf(folder, 1, 2)).toEqual([1, 2])
    expect(pagesOf(folder, 9, 1)).toEqual([3])
  })

  test('pages in the parent image, and in its parent, are found there', () => {
    const folder = temporaryFolder()
    const [top, middle, bottom] = ['top', 'middle', 'bottom'].map(name => path.join(folder, name)) as [
      string,
      string,
      string,
    ]
    put(bottom, 'pagemap-1.img', 1, [entry(1, 4, PRESENT)], [11, 12, 13, 14])
    put(middle, 'pagemap-1.img', 1, [entry(1, 3, PARENT), entry(4, 1, PRESENT)], [24])
    put(top, 'pagemap-1.img', 1, [entry(1, 1, PRESENT), entry(2, 3, PARENT), entry(7, 1, PRESENT)], [31, 37])
    fs.symlinkSync('../bottom', path.join(middle, 'parent'))
    fs.symlinkSync('../middle', path.join(top, 'parent'))
    expect(pagesOf(top, 1, 7)).toEqual([31, 12, 13, 24, undefined, undefined, 37])
  })

  test('images before flags came say in_parent', () => {
    const folder = temporaryFolder()
    const top = path.join(folder, 'top')
    put(path.join(folder, 'below'), 'pagemap-1.img', 1, [{ vaddr: 4096n, compat_nr_pages: 1 }], [5])
    put(top, 'pagemap-1.img', 1, [{ vaddr: 4096n, compat_nr_pages: 1, in_parent: true }], [])
    fs.symlinkSync('../below', path.join(top, 'parent'))
    expect(pagesOf(top, 1, 1)).toEqual([5])
  })

  test('a parent that is missing, that lacks the pages, or that leads in a circle is named', () => {
    const folder = temporaryFolder()
    put(folder, 'pagemap-1.img', 1, [entry(1, 1, PARENT)], [])
    expect(() => pagesOf(folder, 1, 1)).toThrow(/no parent image/)
    fs.symlinkSync('.', path.join(folder, 'parent'))
    expect(() => pagesOf(folder, 1, 1)).toThrow(/no parent image|lacks pages/)
  })

  test('a pages file that is too short is refused with both sizes', () => {
    const folder = temporaryFolder()
    put(folder, 'pagemap-1.img', 1, [entry(1, 3, PRESENT)], [1])
    expect(() => pagesOf(folder, 1, 1)).toThrow(/more pages than there are/)
  })
})

describe('shared memory and incremental images', () => {
  test('shared pages come from the page map of their object, and are written back as they were', async () => {
    const folder = path.join(temporaryFolder(), 'dump')
    fs.cpSync(path.join(samples, 'x86-64'), folder, { recursive: true })
    const directory = new CriuDirectory(folder)
    const mm = directory.message('mm-12623.img', mm_entry)
    const status = 1 | (1 << 8) // a mapping, anonymous and shared
    const shared = {
      start: 0x500000n,
      end: 0x503000n,
      pgoff: 0x1000n,
      shmid: 77n,
      prot: 3,
      flags: 0x21,
      status,
      fd: -1n,
    }
    const vmas = [...mm.vmas, shared].sort((a, b) => (a.start < b.start ? -1 : 1))
    fs.writeFileSync(
      path.join(folder, 'mm-12623.img'),
      encodeImageFile({
        kind: kindByName.get('MM')!,
        framing: 'common',
        entries: [{ type: mm_entry, message: { ...mm, vmas } }],
      }),
    )
    put(folder, 'pagemap-shmem-77.img', 9, [entry(0, 1, PRESENT), entry(2, 1, PRESENT)], [70, 72])
    const image = await readCriu(folder)
    const [process] = image.processes
    // The mapping begins at the second page of the object.
    const first = (page: bigint) => process!.memory.tryRead(0x500000n + page * 4096n, 1)?.[0]
    expect([first(0n), first(1n), first(2n)]).toEqual([undefined, 72, undefined])

    const target = path.join(temporaryFolder(), 'again')
    const memory = process!.memory.patch(0x408000n, Uint8Array.from([1]))
    await writeCriu({ ...image, processes: [{ ...process!, memory }] }, target)
    for (const name of ['pagemap-shmem-77.img', 'pages-9.img', 'mm-12623.img'])
      expect(
        Buffer.compare(fs.readFileSync(path.join(target, name)), fs.readFileSync(path.join(folder, name))),
      ).toBe(0)
    const again = await readCriu(target)
    expect(again.processes[0]!.memory.read(0x501000n, 1)[0]).toBe(72)
    expect(again.processes[0]!.memory.byteCount).toBe(process!.memory.byteCount)

    const changed = process!.memory.patch(0x501000n, Uint8Array.from([1]))
    const refused = writeCriu({ ...image, processes: [{ ...process!, memory: changed }] }, `${target}-2`)
    await expect(refused).rejects.toThrow(/shared memory/)
  })

  test('an incremental image is written so that it stands alone', async () => {
    const folder = temporaryFolder()
    const below = path.join(folder, 'below')
    const top = path.join(folder, 'top')
    fs.cpSync(path.join(samples, 'x86-64'), below, { recursive: true })
    fs.cpSync(path.join(samples, 'x86-64'), top, { recursive: true })
    const source = await readCriu(below)
    const [first, ...others] = source.processes[0]!.memory.extents
    const inParent = [first!, ...others].map(extent =>
      entry(Number(extent.address) / PAGE, extent.length / PAGE, PARENT),
    )
    put(top, 'pagemap-12623.img', 1, inParent, [])
    fs.symlinkSync('../below', path.join(top, 'parent'))
    const target = path.join(folder, 'alone')
    await writeCriu(await readCriu(top), target)
    fs.rmSync(below, { recursive: true })
    const alone = await readCriu(target)
    const before = source.processes[0]!.memory
    const now = alone.processes[0]!.memory
    expect(now.byteCount).toBe(before.byteCount)
    for (const extent of now.extents)
      expect(now.read(extent.address, 16)).toEqual(before.read(extent.address, 16))
  })
})

describe('verify', () => {
  const copy = () => {
    const folder = path.join(temporaryFolder(), 'dump')
    fs.cpSync(path.join(samples, 'x86-64'), folder, { recursive: true })
    return folder
  }

  test('finds nothing in a good image', async () => {
    expect(await verifyCriu(copy())).toEqual([])
  })

  test('names the file that is cut, missing or too long', async () => {
    const cut = copy()
    fs.truncateSync(path.join(cut, 'core-12623.img'), 1000)
    expect(await verifyCriu(cut)).toContainEqual(expect.stringMatching(/truncated.*core-12623.img/))
    const missing = copy()
    fs.rmSync(path.join(missing, 'mm-12623.img'))
    expect(await verifyCriu(missing)).toContainEqual(expect.stringMatching(/mm-12623.img/))
    const long = copy()
    fs.appendFileSync(path.join(long, 'pages-1.img'), 'x')
    expect(await verifyCriu(long)).toContainEqual(expect.stringMatching(/^pages-1.img: 65537 bytes/))
  })
})
