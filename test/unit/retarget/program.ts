/** A program small enough to write by hand: two functions, three sites, frames of different shapes on both ISAs. */
import type { MigratableFunction, ProgramDescription, Site } from '../../../src/toolchain/program.js'

const functions: readonly MigratableFunction[] = [
  {
    name: 'main',
    shadowSize: 32,
    frame: { 'x86-64': { size: 48, record: 16 }, aarch64: { size: 64, record: 32 } },
  },
  {
    name: 'solve',
    shadowSize: 48,
    frame: { 'x86-64': { size: 16, record: 16 }, aarch64: { size: 16, record: 16 } },
  },
]

const sites: readonly Site[] = [
  { id: 1, function: 0, returnAddress: { 'x86-64': 0x401010n, aarch64: 0x401024n } },
  { id: 2, function: 1, returnAddress: { 'x86-64': 0x401110n, aarch64: 0x401124n } },
  { id: 7, function: 1, returnAddress: { 'x86-64': 0x401190n, aarch64: 0x4011a4n } },
]

export const program: ProgramDescription = {
  path: '/somewhere/small.imago.json',
  name: 'small',
  identity: '00'.repeat(32),
  binaries: {
    'x86-64': { path: '/somewhere/small_x86-64', sha256: '11'.repeat(32) },
    aarch64: { path: '/somewhere/small_aarch64', sha256: '22'.repeat(32) },
  },
  functions,
  sites: new Map(sites.map(site => [site.id, site])),
}

/** Shadow frames as the program writes them, innermost first: bytes from the shadow pointer up to the base. */
export function shadowBytes(ids: readonly number[]): Uint8Array {
  const sizes = ids.map(id => functions[program.sites.get(id)!.function]!.shadowSize)
  const bytes = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0))
  const view = new DataView(bytes.buffer)
  let at = 0
  for (const [i, id] of ids.entries()) {
    view.setBigUint64(at, BigInt(id), true)
    at += sizes[i]!
  }
  return bytes
}
