/**
 * The block of the checkpointer through which a restorer wakes a program up, in an image that another tool made (criu) and that does
 * not say where it is. A program of imago cc has it in its data, one under `imago run` in that of libckpt.so.
 *
 *   u64 magic "imresume" │ u32 version │ u32 generation │ u64 entry, in code │ …      native/common/resume.h
 */
import { type Address, extentEnd, type Memory } from '../../model/memory.js'
import type { Mapping, Process } from '../../model/process.js'

const MAGIC = Buffer.from('imresume', 'latin1')
export const RESUME_VERSION = 1
/** Of magic, version, generation and entry. */
const HEAD = 24
/** Data of a program beyond this is not searched: the checkpointer comes first, or is a library of a few pages. */
const SEARCHED = 1 << 24

/** Undefined when the program has no checkpointer of this version inside. */
export function findResumeBlock({ mappings, memory }: Process): Address | undefined {
  for (const mapping of mappings)
    if (mapping.kind === 'file' && mapping.write && !mapping.shared) {
      const found = searchMapping(memory, mapping, mappings)
      if (found !== undefined) return found
    }
  return undefined
}

function searchMapping(
  memory: Memory,
  { start, end }: Mapping,
  mappings: readonly Mapping[],
): Address | undefined {
  for (const extent of memory.within(start, end)) {
    if (extent.content.kind === 'zero' || extent.address - start >= BigInt(SEARCHED)) continue
    const length = Math.min(Number(extentEnd(extent) - extent.address), SEARCHED)
    const bytes = Buffer.from(memory.read(extent.address, length))
    for (let at = bytes.indexOf(MAGIC); at >= 0; at = bytes.indexOf(MAGIC, at + 1)) {
      const address = extent.address + BigInt(at)
      const head = address % 8n === 0n ? memory.tryRead(address, HEAD) : undefined
      if (head === undefined) continue
      const view = new DataView(head.buffer, head.byteOffset)
      const entry = view.getBigUint64(16, true)
      const isCode = mappings.some(each => each.execute && entry >= each.start && entry < each.end)
      if (view.getUint32(8, true) === RESUME_VERSION && isCode) return address
    }
  }
  return undefined
}
