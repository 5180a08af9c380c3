/** Objects of both ISAs → two static binaries with one layout. */
import fs from 'node:fs/promises'
import path from 'node:path'
import { ElfFile } from '../lib/elf.js'
import type { IsaName } from '../model/process.js'
import {
  type Layout,
  linkerScript,
  PROGRAM_RANGE,
  planLayout,
  readLinkMap,
  requireSameAddresses,
} from './layout.js'
import { isaNames } from './program.js'
import { type Tools, targets } from './tools.js'

/** `-O0`: no merging of strings and no relaxation, which would tell the ISAs apart. */
const OPTIONS = [
  ...['-static', '-O0', '--no-relax', '--strip-debug', '--build-id=sha1', '--no-gc-sections'],
  ...['-z', 'norelro', '-z', 'max-page-size=65536', '-z', 'noexecstack'],
]

export interface Linked {
  readonly layout: Layout
  /** Number of symbols found at the same address in both. */
  readonly symbols: number
}

/**
 * @param objects of each ISA: same base names, in a folder an ISA.
 * @param outputs where the binaries go.
 */
export async function linkBoth(
  tools: Tools,
  folder: string,
  objects: Readonly<Record<IsaName, readonly string[]>>,
  outputs: Readonly<Record<IsaName, string>>,
): Promise<Linked> {
  const link = (isa: IsaName, output: string, more: readonly string[]) => {
    const musl = tools.libraries(isa)
    return tools.run('ld.lld', [
      ...['-m', targets[isa].emulation, ...OPTIONS, '-o', output, ...more],
      ...[path.join(musl, 'crt1.o'), path.join(musl, 'crti.o'), ...objects[isa]],
      ...['--start-group', path.join(musl, 'libc.a'), tools.libgcc(isa), '--end-group'],
      path.join(musl, 'crtn.o'),
    ])
  }
  const first = await Promise.all(
    isaNames.map(async isa => {
      const [output, map] = [path.join(folder, `first.${isa}`), path.join(folder, `first.${isa}.map`)]
      await link(isa, output, [`-Map=${map}`, ...PROGRAM_RANGE.map(name => `--defsym=${name}=0`)])
      return { inputs: readLinkMap(await fs.readFile(map, 'utf8')), own: ownSize(output) }
    }),
  )
  const layout = planLayout(
    { 'x86-64': first[0]!.inputs, aarch64: first[1]!.inputs },
    Math.max(...first.map(each => each.own)) + 0x1000,
  )
  await Promise.all(
    isaNames.map(async isa => {
      const script = path.join(folder, `${isa}.lds`)
      await fs.writeFile(script, linkerScript(layout, isa))
      await link(isa, outputs[isa], ['-T', script])
    }),
  )
  const symbols = requireSameAddresses(
    { 'x86-64': symbolsOf(outputs['x86-64']), aarch64: symbolsOf(outputs.aarch64) },
    outputs.aarch64,
  )
  return { layout, symbols }
}

/** Bytes of the writable sections that are of the ISA. */
function ownSize(binary: string): number {
  const elf = ElfFile.open(binary)
  try {
    return elf.sections
      .filter(each => /^\.(tdata|(pre)?init_array|fini_array|got(\.plt)?)$/.test(each.name))
      .reduce((sum, each) => sum + each.size + 64, 0)
  } finally {
    elf.close()
  }
}

/** Addresses of all defined symbols by name; offsets in the segment for thread-local ones. */
export function symbolsOf(binary: string): Map<string, bigint[]> {
  const elf = ElfFile.open(binary)
  try {
    const table = elf.section('.symtab')!
    const strings = elf.sections[table.link]!
    const entries = elf.source.read(table.offset, table.size)
    const names = elf.source.read(strings.offset, strings.size)
    const view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength)
    const result = new Map<string, bigint[]>()
    for (let at = 24; at + 24 <= entries.length; at += 24) {
      const type = view.getUint8(at + 4) & 15
      if (view.getUint16(at + 6, true) === 0 || (type > 2 && type !== 6)) continue
      const start = view.getUint32(at, true)
      const name = Buffer.from(names.subarray(start, names.indexOf(0, start))).toString()
      if (name === '') continue
      const list = result.get(name)
      if (list) list.push(view.getBigUint64(at + 8, true))
      else result.set(name, [view.getBigUint64(at + 8, true)])
    }
    return result
  } finally {
    elf.close()
  }
}
