/** Names for addresses, from the symbol tables of the files that a process had mapped, where they are still there. */
import path from 'node:path'
import { hex } from '../../lib/bytes.js'
import { Symbolizer } from '../../lib/symbolizer.js'
import type { Process } from '../../model/process.js'

/** `poll+0x17 (libc.so.6)`. Returns a function that keeps what it has read: each file is opened once. */
export function addressNamer(): (process: Process, address: bigint) => string | undefined {
  const symbolizer = new Symbolizer()
  return (process, address) => {
    const mapping = process.mappings.find(each => each.start <= address && address < each.end)
    if (mapping === undefined) return undefined
    if (mapping.file === undefined) return mapping.kind === 'anonymous' ? undefined : `(${mapping.kind})`
    const file = `(${path.basename(mapping.file.path)})`
    if (mapping.file.deleted) return file
    const symbol = symbolizer.atOffset(mapping.file.path, mapping.file.offset + (address - mapping.start))
    if (symbol === undefined) return file
    return `${symbol.name}${symbol.offset > 0 ? `+${hex(symbol.offset)}` : ''} ${file}`
  }
}
