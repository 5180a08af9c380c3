import { describe, expect, test } from 'vitest'
import { BufferSource } from '../../../src/lib/byte-source.js'
import { ElfFile } from '../../../src/lib/elf.js'
import { SHF } from '../../../src/lib/elf-sections.js'
import { LoadedFiles } from '../../../src/model/loaded-files.js'
import { type Extent, Memory } from '../../../src/model/memory.js'
import { contentsText, pageBreakdown } from '../../../src/model/page-breakdown.js'
import { vdsoPointers } from '../../../src/model/vdso-pointers.js'
import { someMapping, someProcess } from '../../helpers/process-image.js'
import { tinyElf } from '../../helpers/tiny-elf.js'

const FUNCTION = 2
const OBJECT = 1
const file = (offset: bigint) => ({ path: '/bin/is', offset, deleted: false })

/** Laid out as the program of the manual notes: one page of .text, one of .data, 133 of .bss. */
const binary = tinyElf(
  [
    { name: '.text', address: 0x500000n, content: new Uint8Array(0x800), flags: SHF.EXECINSTR },
    { name: '.data', address: 0x501000n, content: new Uint8Array(0x1000), flags: SHF.WRITE },
    { name: '.bss', address: 0x502000n, content: 133 * 0x1000, flags: SHF.WRITE },
  ],
  [{ name: 'vdso_func', type: OBJECT, address: 0x501270n, size: 8 }],
)
const vdso = tinyElf(
  [{ name: '.text', address: 0x1000n, content: new Uint8Array(0x100), flags: SHF.EXECINSTR }],
  [{ name: '__vdso_clock_gettime', type: FUNCTION, address: 0x1040n, size: 0x20 }],
)
const VDSO = 0x7ffff7ffb000n

/** Pages behind each other in one file, as CRIU writes them: [address, number of pages]. */
function pagesFile(ranges: ReadonlyArray<readonly [bigint, number]>): { memory: Memory; bytes: Uint8Array } {
  const bytes = new Uint8Array(ranges.reduce((sum, [, count]) => sum + count * 4096, 0))
  const source = Object.assign(new BufferSource(bytes), { path: 'pages-1.img' })
  let offset = 0
  const extents = ranges.map(([address, count]): Extent => {
    const extent: Extent = { address, length: count * 4096, content: { kind: 'slice', source, offset } }
    offset += count * 4096
    return extent
  })
  return { memory: Memory.from(extents), bytes }
}

function isProcess() {
  const { memory, bytes } = pagesFile([
    [0x500000n, 135],
    [VDSO, 2],
    [0x7ffffffdd000n, 2],
  ])
  const process = someProcess({
    executable: '/bin/is',
    memory,
    mappings: [
      someMapping(0x500000n, 0x501000n, { kind: 'file', execute: true, file: file(0x1000n) }),
      someMapping(0x501000n, 0x502000n, { kind: 'file', write: true, file: file(0x2000n) }),
      someMapping(0x502000n, 0x587000n, { write: true }),
      someMapping(VDSO - 0x3000n, VDSO, { kind: 'vvar' }),
      someMapping(VDSO, VDSO + 0x2000n, { kind: 'vdso', execute: true }),
      someMapping(0x7ffffffdd000n, 0x7ffffffdf000n, { kind: 'stack', write: true }),
    ],
  })
  return { process, bytes, view: new DataView(bytes.buffer) }
}

const elf = () => new ElfFile(new BufferSource(binary))

describe('page breakdown', () => {
  test('page ranges come out as the manual notes list them', () => {
    const { process } = isProcess()
    const runs = pageBreakdown(process, new LoadedFiles(process, 'x86-64', elf))
    expect(runs.map(run => [run.first, run.count, contentsText(run, '/bin/is')])).toEqual([
      [0, 1, '.text'],
      [1, 1, '.data'],
      [2, 133, '.bss'],
      [135, 2, 'vdso'],
      [137, 2, 'stack'],
    ])
  })

  test('without the binary, code, data and what follows them still have their names', () => {
    const { process } = isProcess()
    const runs = pageBreakdown(process, new LoadedFiles(process, 'x86-64', () => undefined))
    expect(runs.map(run => run.contents.join())).toEqual(['code', 'data', 'bss', 'vdso', 'stack'])
  })

  test('a binary for the other ISA gives no sections', () => {
    const { process } = isProcess()
    expect(new LoadedFiles(process, 'aarch64', elf).files).toEqual([])
  })

  test('a position-independent file is found at the address it was loaded at', () => {
    const process = someProcess({
      mappings: [someMapping(0x7f0000001000n, 0x7f0000002000n, { kind: 'file', file: file(0x2000n) })],
    })
    const loaded = new LoadedFiles(process, 'x86-64', elf)
    expect(loaded.symbol(0x7f0000001270n)).toMatchObject({ name: 'vdso_func', address: 0x7f0000001270n })
  })
})

describe('pointers into the vDSO', () => {
  test('a word of .data that holds a function of the vDSO is found, with its offset, symbol and value', () => {
    const { process, bytes, view } = isProcess()
    bytes.set(vdso.subarray(0, 0x2000), 135 * 4096)
    const clock = VDSO + 0x1040n
    view.setBigUint64(0x1270, clock, true)
    view.setBigUint64(137 * 4096 + 8, VDSO, true)
    const found = [...vdsoPointers(process)]
    expect(found.map(each => [each.address, each.value, each.function])).toEqual([
      [0x501270n, clock, '__vdso_clock_gettime'],
      [0x7ffffffdd008n, VDSO, undefined],
    ])
    const loaded = new LoadedFiles(process, 'x86-64', elf)
    expect(loaded.symbol(found[0]!.address)?.name).toBe('vdso_func')
  })

  test('words next to the vDSO, and the vDSO itself, are not reported', () => {
    const { process, view } = isProcess()
    view.setBigUint64(0x1008, VDSO + 0x2000n, true)
    view.setBigUint64(0x1010, VDSO - 0x3001n, true)
    view.setBigUint64(135 * 4096, VDSO, true)
    expect([...vdsoPointers(process)]).toEqual([])
  })
})
