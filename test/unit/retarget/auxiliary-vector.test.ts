import { expect, test } from 'vitest'
import { isas } from '../../../src/isa/isas.js'
import { type Extent, Memory } from '../../../src/model/memory.js'
import type { AddressSpaceLayout, Mapping } from '../../../src/model/process.js'
import { translateVectorInMemory } from '../../../src/retarget/auxiliary-vector.js'
import type { MainStack } from '../../../src/retarget/main-stack.js'
import type { ProgramBinary } from '../../../src/retarget/program-binary.js'

const SYSINFO_EHDR = 33n
const IGNORE = 1n
const start = 0x7fff_0000_0000n

function page(address: bigint, words: readonly bigint[]): Extent {
  const bytes = new Uint8Array(4096)
  const view = new DataView(bytes.buffer)
  for (const [i, word] of words.entries()) view.setBigUint64(i * 8, word, true)
  return { address, length: bytes.length, content: { kind: 'bytes', bytes } }
}

test('the vDSO of the source is forgotten though a page between the vector and the strings was never touched', () => {
  // argc, argv[0], 0, envp[0], 0, the vector; then a page that no image holds, then the strings.
  const words = [1n, start + 0x2000n, 0n, start + 0x2010n, 0n, SYSINFO_EHDR, 0x7f77_0000_0000n, 0n, 0n]
  const memory = Memory.from([page(start, words), page(start + 0x2000n, [0x41n])])
  const old = { start, end: start + 0x3000n } as Mapping
  const patches = translateVectorInMemory(
    memory,
    { startStack: start } as AddressSpaceLayout,
    { isa: isas.aarch64 } as unknown as ProgramBinary,
    { old, shift: 0n } as unknown as MainStack,
  )
  expect(
    patches.map(({ address, bytes }) => [address, new DataView(bytes.buffer).getBigUint64(0, true)]),
  ).toEqual([[start + 40n, IGNORE]])
})
