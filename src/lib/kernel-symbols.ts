/**
 * The symbols of a Linux kernel: an ELF vmlinux, or the text of System.map and /proc/kallsyms, a line a symbol:
 *
 *   ffffffff81000000 T _text
 */
import fs from 'node:fs'
import { FileSource } from './byte-source.js'
import { ElfFile } from './elf.js'
import { UnreadableError } from './errors.js'
import type { NamedAddress } from './symbolizer.js'

export interface KernelSymbols {
  /** Where the symbol was linked to (kallsyms: where it is). */
  addressOf(name: string): bigint | undefined
  /** The function or object that holds an address. */
  at(address: bigint): NamedAddress | undefined
  /** Nothing may be asked afterwards. */
  close(): void
}

/** A text of symbols; a large kernel's with all modules has some 20 MB. */
const MAX_TEXT_BYTES = 256 << 20
const LINE = /^([0-9a-f]{8,16}) ([A-Za-z]) (\S+)/
const CODE = /[tTwW]/

/** @throws UnreadableError for a file that is neither. */
export function openKernelSymbols(file: string): KernelSymbols {
  const source = new FileSource(file)
  const magic = Buffer.from(source.read(0, Math.min(4, source.size))).toString('latin1')
  if (magic === '\x7fELF') return elfSymbols(source)
  source.close()
  if (source.size > MAX_TEXT_BYTES)
    throw new UnreadableError('too large for a list of symbols', { file, found: `${source.size} bytes` })
  return textSymbols(fs.readFileSync(file, 'latin1'), file)
}

function elfSymbols(source: FileSource): KernelSymbols {
  try {
    const { symbols } = new ElfFile(source)
    return {
      addressOf: name => symbols.named(name)?.address,
      at: address => {
        const hit = symbols.at(address)
        return hit && { name: hit.name, offset: Number(address - hit.address) }
      },
      close: () => source.close(),
    }
  } catch (error) {
    source.close()
    throw error
  }
}

function textSymbols(text: string, file: string): KernelSymbols {
  const addresses = new Map<string, bigint>()
  const code: { address: bigint; name: string }[] = []
  for (const line of text.split('\n')) {
    const match = LINE.exec(line)
    if (match === null) continue
    const [, digits, kind, name] = match as unknown as [string, string, string, string]
    const address = BigInt(`0x${digits}`)
    if (!addresses.has(name)) addresses.set(name, address)
    if (CODE.test(kind)) code.push({ address, name })
  }
  if (addresses.size === 0)
    throw new UnreadableError('no list of kernel symbols', {
      file,
      expected: 'a vmlinux with symbols, System.map, or /proc/kallsyms of the guest',
    })
  code.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0))
  return {
    close() {},
    addressOf: name => addresses.get(name),
    at: address => {
      let [low, high] = [0, code.length]
      while (low < high) {
        const middle = (low + high) >>> 1
        if (code[middle]!.address <= address) low = middle + 1
        else high = middle
      }
      const hit = code[low - 1]
      // Behind the last symbol of the text nothing is known.
      if (hit === undefined || low === code.length) return undefined
      return { name: hit.name, offset: Number(address - hit.address) }
    },
  }
}
