import { describe, expect, test } from 'vitest'
import { AT } from '../../../src/isa/linux.js'
import { LoadedFiles } from '../../../src/model/loaded-files.js'
import { type Extent, Memory } from '../../../src/model/memory.js'
import type { Process, ProcessImage } from '../../../src/model/process.js'
import { parseRecipe } from '../../../src/recompose/recipe.js'
import { recompose, strayPointers } from '../../../src/recompose/recompose.js'
import type { Ingredient } from '../../../src/recompose/regions.js'
import { someImage, someMapping, someProcess } from '../../helpers/process-image.js'

const page = (address: bigint, fill: number, count = 1): Extent => ({
  address,
  length: count * 4096,
  content: { kind: 'bytes', bytes: new Uint8Array(count * 4096).fill(fill) },
})
const exe = (offset: bigint) => ({
  kind: 'file' as const,
  file: { path: '/bin/prog', offset, deleted: false },
})
const base = someProcess().layout

/** The same program twice: text, data, bss, a heap, vdso and stack; each page is filled with the image's own number. */
function program(
  fill: number,
  changes: { heapPages?: number; vdso?: bigint; stackEnd?: bigint } = {},
): Process {
  const { heapPages = 1, vdso = 0x7fff_0000_0000n, stackEnd = 0x7fff_8000_0000n } = changes
  const heapEnd = 0x40_6000n + BigInt(heapPages) * 0x1000n
  return someProcess({
    mappings: [
      someMapping(0x40_0000n, 0x40_2000n, { ...exe(0n), execute: true }),
      someMapping(0x40_2000n, 0x40_4000n, { ...exe(0x2000n), write: true }),
      someMapping(0x40_4000n, 0x40_6000n, { write: true }),
      someMapping(0x40_6000n, heapEnd, { kind: 'heap', write: true }),
      someMapping(vdso, vdso + 0x1000n, { kind: 'vdso', execute: true }),
      someMapping(stackEnd - 0x4000n, stackEnd, { kind: 'stack', write: true, growsDown: true }),
    ],
    memory: Memory.from([
      page(0x40_0000n, fill),
      page(0x40_2000n, fill, 2),
      page(0x40_4000n, fill),
      page(0x40_6000n, fill, heapPages),
      page(vdso, fill),
      page(stackEnd - 0x1000n, fill),
    ]),
    layout: { ...base, startBrk: 0x40_6000n, brk: heapEnd, auxv: [[AT.SYSINFO_EHDR, vdso]] },
    threads: [],
  })
}

function cookPure(text: string, processes: Readonly<Record<string, Process>>): Process {
  const recipe = parseRecipe(text, '/')
  const ingredients = new Map<string, Ingredient>()
  const images = new Map<string, ProcessImage>()
  for (const [name, process] of Object.entries(processes)) {
    images.set(name, someImage([process]))
    ingredients.set(name, {
      name,
      isa: 'x86-64',
      process,
      loaded: new LoadedFiles(process, 'x86-64', () => undefined),
    })
  }
  return recompose(recipe, images.get(recipe.base)!, ingredients).processes[0]!
}

const images = 'images: {b: b, a: a}\n'
const byteAt = (process: Process, address: bigint) => process.memory.tryRead(address, 1)?.[0]

describe('recompose', () => {
  test('each region comes from where the recipe says, the rest from the base', () => {
    const made = cookPure(
      `${images}regions: [{region: .text, zero: true}, {region: .data, copy: a}, {region: .bss, copy: a}]`,
      {
        b: program(2),
        a: program(1),
      },
    )
    expect(byteAt(made, 0x40_0000n)).toBe(0)
    expect(byteAt(made, 0x40_3000n)).toBe(1)
    expect(byteAt(made, 0x40_4000n)).toBe(1)
    expect(byteAt(made, 0x40_6000n)).toBe(2)
    // A page that no image holds is not made up: the file or the kernel's zeros stand there.
    expect(byteAt(made, 0x40_1000n)).toBeUndefined()
  })

  test('a page belongs to the first region that names it', () => {
    const made = cookPure(`${images}regions: [{address: 0x402000-0x403000}, {region: .data, copy: a}]`, {
      b: program(2),
      a: program(1),
    })
    expect([byteAt(made, 0x40_2000n), byteAt(made, 0x40_3000n)]).toEqual([2, 1])
  })

  test('patches change exactly their bytes, with numbers, bytes or those of another image', () => {
    const made = cookPure(
      `${images}regions: [{region: .data, copy: a, patch: [{offset: 0x10, value: 0x0807, size: 2}, {offset: 0x1020, bytes: "0a 0b"}, {offset: 0x270, from: b, length: 3}]}]`,
      { b: program(2), a: program(1) },
    )
    const data = made.memory.read(0x40_2000n, 0x2000)
    const expected = new Uint8Array(0x2000).fill(1)
    expected.set([7, 8], 0x10)
    expected.set([10, 11], 0x1020)
    expected.set([2, 2, 2], 0x270)
    expect(Buffer.compare(data, expected)).toBe(0)
  })

  test('a patch on a page that the image does not hold is refused: zeros would surround it', () => {
    expect(() =>
      cookPure(`${images}regions: [{address: 0x401000-0x402000, patch: [{offset: 0, value: 1}]}]`, {
        b: program(2),
        a: program(1),
      }),
    ).toThrow('patches a page that the image does not hold')
  })

  test('a larger heap makes the mapping and brk grow; a stack is laid end to end', () => {
    const made = cookPure(`${images}regions: [{region: heap, copy: a}, {region: stack, copy: a}]`, {
      b: program(2),
      a: program(1, { heapPages: 3, stackEnd: 0x7ffe_0000_0000n }),
    })
    expect(made.layout.brk).toBe(0x40_9000n)
    expect(made.mappings.find(each => each.kind === 'heap')?.end).toBe(0x40_9000n)
    expect(byteAt(made, 0x40_8fffn)).toBe(1)
    expect(byteAt(made, 0x7fff_7fff_ffffn)).toBe(1)
  })

  test('a section that does not fit is refused, nothing is overwritten silently', () => {
    const large = program(1)
    const mappings = large.mappings.map(each =>
      each.start === 0x40_4000n ? { ...each, end: 0x40_7000n } : each,
    )
    const a = { ...large, mappings, memory: large.memory.overlay([page(0x40_6000n, 1)]) }
    expect(() => cookPure(`${images}regions: [{region: .bss, copy: a}]`, { b: program(2), a })).toThrow(
      'copies more than there is room for',
    )
  })

  test('a vDSO from another image brings its mapping and its place in the auxiliary vector', () => {
    const made = cookPure(`${images}regions: [{region: vdso, template: a}]`, {
      b: program(2),
      a: program(1, { vdso: 0x7ffd_0000_0000n }),
    })
    expect(made.mappings.filter(each => each.kind === 'vdso').map(each => each.start)).toEqual([
      0x7ffd_0000_0000n,
    ])
    expect(byteAt(made, 0x7ffd_0000_0000n)).toBe(1)
    expect(byteAt(made, 0x7fff_0000_0000n)).toBeUndefined()
    expect(made.layout.auxv).toEqual([[AT.SYSINFO_EHDR, 0x7ffd_0000_0000n]])
  })

  test('pages are chosen by the numbers that imago pages shows', () => {
    const b = program(2)
    const source = {
      size: 8 * 4096,
      path: 'pages-1.img',
      readInto: (into: Uint8Array) => into.fill(9),
      read: () => new Uint8Array(),
      close() {},
    }
    let offset = 0
    const memory = Memory.from(
      b.memory.extents.map((extent): Extent => {
        const slice: Extent = { ...extent, content: { kind: 'slice', source, offset } }
        offset += extent.length
        return slice
      }),
    )
    const made = cookPure(`${images}regions: [{pages: 1-2, zero: true}]`, {
      b: { ...b, memory },
      a: program(1),
    })
    expect([0x40_0000n, 0x40_2000n, 0x40_3000n, 0x40_4000n].map(at => byteAt(made, at))).toEqual([9, 0, 0, 9])
    expect(() =>
      cookPure(`${images}regions: [{pages: 90-99, zero: true}]`, { b: { ...b, memory }, a: program(1) }),
    ).toThrow('names pages that image b does not have')
  })

  test('nothing above the address space of the ISA is made', () => {
    expect(() =>
      cookPure(`${images}regions: [{region: stack, template: a}]`, {
        b: program(2),
        a: program(1, { stackEnd: 0xffff_ffff_f000n }),
      }),
    ).toThrow('above the address space of x86-64')
  })

  test('strayPointers is silent about images that nothing was copied from', () => {
    const recipe = parseRecipe(`${images}regions: []`, '/')
    expect(strayPointers(recipe, program(2), new Map())).toEqual([])
  })
})
