import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BufferSource } from '../../../src/lib/byte-source.js'
import { type Extent, Memory, PAGE_SIZE, ZERO } from '../../../src/model/memory.js'
import { differingPages } from '../../../src/model/memory-diff.js'
import { diffProcessImages } from '../../../src/model/process-diff.js'
import { verifyProcessImage } from '../../../src/model/process-verify.js'
import { someImage, someMapping, someProcess, someThread } from '../../helpers/process-image.js'

const PAGES = 24

/** For each page of a small space: absent, zero, or filled with one of two values, as bytes or as a slice. */
const somePages = fc.array(fc.constantFrom('absent', 'zero', 'bytes:0', 'bytes:7', 'slice:0', 'slice:7'), {
  minLength: PAGES,
  maxLength: PAGES,
})

function makeMemory(pages: readonly string[]): Memory {
  const extents = pages.flatMap((page, i): Extent[] => {
    const address = BigInt(i * PAGE_SIZE)
    if (page === 'absent') return []
    if (page === 'zero') return [{ address, length: PAGE_SIZE, content: ZERO }]
    const [kind, value] = page.split(':')
    const bytes = new Uint8Array(PAGE_SIZE).fill(Number(value))
    if (kind === 'bytes') return [{ address, length: PAGE_SIZE, content: { kind: 'bytes', bytes } }]
    return [
      { address, length: PAGE_SIZE, content: { kind: 'slice', source: new BufferSource(bytes), offset: 0 } },
    ]
  })
  return Memory.from(extents)
}

const fillOf = (page: string) => (page === 'absent' ? undefined : page === 'zero' ? '0' : page.split(':')[1])

test('differingPages finds exactly the pages whose bytes or presence differ', () => {
  fc.assert(
    fc.property(somePages, somePages, (before, after) => {
      const expected = before.map((page, i) => {
        const [a, b] = [fillOf(page), fillOf(after[i]!)]
        return a === b ? 'same' : a === undefined ? 'added' : b === undefined ? 'removed' : 'changed'
      })
      const found: string[] = new Array(PAGES).fill('same')
      for (const range of differingPages(makeMemory(before), makeMemory(after)))
        for (let i = 0; i < range.pages; i++) found[Number(range.start) / PAGE_SIZE + i] = range.change
      expect(found).toEqual(expected)
    }),
  )
})

describe('diffProcessImages', () => {
  test('an image and itself have no difference', () => {
    expect(diffProcessImages(someImage(), someImage()).processes).toEqual([])
  })

  test('a changed register, a new mapping and a new process are each found', () => {
    const thread = someThread({
      registers: {
        general: new Map([
          ['rip', 0x1010n],
          ['rsp', 0x8000n],
          ['rax', 2n],
        ]),
        vector: undefined,
      },
    })
    const extra = someMapping(0xa000n, 0xb000n)
    const before = someImage([someProcess(), someProcess({ pid: 101, threads: [] })])
    const after = someImage([
      someProcess({ threads: [thread], mappings: [...someProcess().mappings, extra] }),
      someProcess({ pid: 102, threads: [] }),
    ])
    const diff = diffProcessImages(before, after).processes
    expect(diff.map(each => each.pid)).toEqual([
      { before: 100, after: 100 },
      { before: 101, after: undefined },
      { before: undefined, after: 102 },
    ])
    expect(diff[0]!.threads[0]!.registers).toEqual([{ name: 'rax', before: 1n, after: 2n }])
    expect(diff[0]!.mappings).toEqual([{ before: undefined, after: extra }])
  })
})

describe('verifyProcessImage', () => {
  test('a sound image has no problem', () => {
    expect(verifyProcessImage(someImage())).toEqual([])
  })

  test.each([
    [
      'overlapping mappings',
      someProcess({
        mappings: [someMapping(0x1000n, 0x3000n, { execute: true }), someMapping(0x2000n, 0x9000n)],
      }),
      /overlaps/,
    ],
    [
      'a program counter outside code',
      someProcess({ mappings: [someMapping(0x1000n, 0x9000n)] }),
      /no executable mapping/,
    ],
    [
      'a stack outside memory',
      someProcess({ mappings: [someMapping(0x1000n, 0x3000n, { execute: true })] }),
      /stack/,
    ],
    [
      'memory outside mappings',
      someProcess({ memory: Memory.from([{ address: 0x5000n, length: 4096, content: ZERO }]) }),
      /no mapping/,
    ],
    [
      'a descriptor without an open file',
      someProcess({ files: [{ fd: 3, closeOnExec: false, description: 9 }] }),
      /fd 3/,
    ],
    ['no thread', someProcess({ threads: [] }), /no thread/],
  ])('%s is reported', (_, process, message) => {
    expect(verifyProcessImage(someImage([process])).join('\n')).toMatch(message)
  })
})
