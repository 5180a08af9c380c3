/** Two linked binaries and what the pass knew → the description that goes beside them (`program.ts`). */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { ElfFile } from '../lib/elf.js'
import { LossError } from '../lib/errors.js'
import type { IsaName } from '../model/process.js'
import { symbolsOf } from './link.js'
import {
  Code,
  frameLayout,
  lastAtOrBefore,
  lastCallOfArm,
  readStackmaps,
  returnAddressesOf,
} from './machine-frames.js'
import { type FrameLayout, isaNames, PROGRAM_SCHEMA, USER_MAIN } from './program.js'
import { FRAME_SIZES, type ShadowFrames } from './shadow-frames.js'
import type { Tools } from './tools.js'

interface MachineSide {
  /** By site. */
  readonly returns: ReadonlyMap<number, bigint>
  /** By name. */
  readonly frames: ReadonlyMap<string, FrameLayout>
}

/** The description as JSON text. `identity` is 32 bytes as hexadecimal. */
export async function describe(
  tools: Tools,
  name: string,
  identity: string,
  binaries: Readonly<Record<IsaName, string>>,
  shadow: ShadowFrames,
): Promise<string> {
  const [x86, arm] = await Promise.all(
    isaNames.map(isa => readMachineSide(tools, isa, binaries[isa], shadow)),
  )
  const sides = { 'x86-64': x86!, aarch64: arm! }
  const sizes = readFrameSizes(binaries['x86-64'], shadow.functions.length)
  const perIsa = <T>(value: (isa: IsaName) => T) => Object.fromEntries(isaNames.map(isa => [isa, value(isa)]))
  // A site that one back end found unreachable is in neither: no thread can stand there.
  const sites = shadow.sites.filter(site => isaNames.every(isa => sides[isa].returns.has(site.id)))
  const used = shadow.functions.filter(fn => sites.some(site => site.function === fn))
  const index = new Map(used.map((fn, i) => [fn, i]))
  return `${JSON.stringify(
    {
      schema: PROGRAM_SCHEMA,
      name,
      identity,
      binaries: perIsa(isa => ({
        path: path.basename(binaries[isa]),
        sha256: createHash('sha256').update(fs.readFileSync(binaries[isa])).digest('hex'),
      })),
      functions: used.map(fn => ({
        name: fn,
        shadowSize: sizes[shadow.functions.indexOf(fn)]!,
        frame: perIsa(isa => sides[isa].frames.get(fn)!),
      })),
      sites: sites.map(site => ({
        id: site.id,
        function: index.get(site.function)!,
        returnAddress: perIsa(isa => `0x${sides[isa].returns.get(site.id)!.toString(16)}`),
        ...(site.source === undefined ? {} : { source: site.source }),
      })),
    },
    null,
    1,
  )}\n`
}

async function readMachineSide(
  tools: Tools,
  isa: IsaName,
  binary: string,
  shadow: ShadowFrames,
): Promise<MachineSide> {
  const elf = ElfFile.open(binary)
  try {
    const { frames: stackSizes, records } = readStackmaps(elf)
    const code = new Code(elf)
    const symbols = symbolsOf(binary)
    const frames = new Map<string, FrameLayout>()
    const starts = [...stackSizes.keys()].sort((a, b) => (a < b ? -1 : 1))
    const after = new Map(starts.map((start, i) => [start, starts[i + 1] ?? start + 0x100000n]))
    for (const fn of shadow.functions) {
      const start = symbols.get(fn)?.find(address => stackSizes.has(address))
      if (start === undefined) continue
      const size = stackSizes.get(start)!
      if (size >= 2 ** 31)
        throw new LossError(
          `${fn.replace(USER_MAIN, 'main')}: its native frame has no fixed size on ${isa}, for it is aligned to more than 16 bytes`,
          {
            file: shadow.sites.find(site => site.function === fn)?.source,
            hint: 'pass what is aligned to 32 bytes or more (alignas, wide vectors) by its address, not by value',
          },
        )
      frames.set(fn, frameLayout(isa, size, code, start, after.get(start)!))
    }
    const returns = new Map<number, bigint>()
    const listed = isa === 'x86-64' ? returnAddressesOf(await disassemble(tools, binary, starts)) : []
    for (const record of records) {
      const at =
        isa === 'x86-64'
          ? lastAtOrBefore(listed, record.address)
          : lastCallOfArm(code, record.address, record.function)
      if (at === undefined || at <= record.function)
        throw new LossError(`site ${record.site} has no call before it on ${isa}`, { file: binary })
      // The same code twice stands for the same point; either place will do.
      if (!returns.has(record.site)) returns.set(record.site, at)
    }
    return { returns, frames }
  } finally {
    elf.close()
  }
}

async function disassemble(tools: Tools, binary: string, starts: readonly bigint[]): Promise<string> {
  const end = starts.at(-1)! + 0x100000n
  const result = await tools.run('llvm-objdump', [
    ...['-d', '--no-show-raw-insn', '--no-print-imm-hex'],
    ...[`--start-address=0x${starts[0]!.toString(16)}`, `--stop-address=0x${end.toString(16)}`, binary],
  ])
  return result.stdout
}

/** The table that the pass left in the binary: the size of each function's shadow frame. */
function readFrameSizes(binary: string, count: number): number[] {
  const elf = ElfFile.open(binary)
  try {
    const section = elf.section('.imago.frames')
    if (section === undefined || section.size !== 8 * count)
      throw new LossError(`the table ${FRAME_SIZES} is not as it was written`, { file: binary })
    const bytes = elf.source.read(section.offset, section.size)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    return Array.from({ length: count }, (_, i) => Number(view.getBigUint64(8 * i, true)))
  } finally {
    elf.close()
  }
}
