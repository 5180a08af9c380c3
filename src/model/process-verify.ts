/** What must hold for any process image, whatever its format. Pure: cost follows mappings and extents, no page is read. */
import { hex } from '../lib/bytes.js'
import { extentEnd } from './memory.js'
import type { IsaName, Process, ProcessImage } from './process.js'

const programCounter: Record<IsaName, string> = { 'x86-64': 'rip', aarch64: 'pc' }
const stackPointer: Record<IsaName, string> = { 'x86-64': 'rsp', aarch64: 'sp' }

/** Problems in words, one each; none for a consistent image. */
export function verifyProcessImage(image: ProcessImage): string[] {
  const problems: string[] = []
  if (image.processes.length === 0) problems.push('the image holds no process')
  const pids = new Set<number>()
  for (const process of image.processes) {
    if (pids.has(process.pid)) problems.push(`two processes have pid ${process.pid}`)
    pids.add(process.pid)
    if (process.state !== 'zombie')
      problems.push(...verifyProcess(process, image).map(problem => `pid ${process.pid}: ${problem}`))
  }
  return problems
}

function verifyProcess(process: Process, image: ProcessImage): string[] {
  const problems: string[] = []
  if (process.threads.length === 0) problems.push('no thread')
  let end = 0n
  for (const mapping of process.mappings) {
    if (mapping.end <= mapping.start) problems.push(`mapping ${hex(mapping.start)} is empty`)
    if (mapping.start < end) problems.push(`mapping ${hex(mapping.start)} overlaps the one before it`)
    if ((mapping.start | mapping.end) & 0xfffn)
      problems.push(`mapping ${hex(mapping.start)} does not lie on page borders`)
    end = mapping.end
  }
  problems.push(...memoryOutsideMappings(process))
  const holding = (address: bigint) =>
    process.mappings.find(mapping => mapping.start <= address && address < mapping.end)
  for (const thread of process.threads) {
    const pc = thread.registers.general.get(programCounter[image.isa])
    const sp = thread.registers.general.get(stackPointer[image.isa])
    if (pc === undefined || sp === undefined)
      problems.push(`thread ${thread.tid} has no program counter or stack pointer`)
    else {
      if (!holding(pc)?.execute)
        problems.push(`thread ${thread.tid} is at ${hex(pc)}, where no executable mapping is`)
      // A stack may stand exactly at the end of its mapping while nothing is on it.
      if (!holding(sp) && !holding(sp - 1n))
        problems.push(`thread ${thread.tid} has its stack at ${hex(sp)}, where nothing is mapped`)
    }
  }
  for (const file of process.files)
    if (!image.descriptions.has(file.description))
      problems.push(`fd ${file.fd} refers to an open file that the image does not hold`)
  return problems
}

function memoryOutsideMappings(process: Process): string[] {
  const problems: string[] = []
  let next = 0
  for (const extent of process.memory.extents) {
    let at = extent.address
    while (at < extentEnd(extent)) {
      while (next < process.mappings.length && process.mappings[next]!.end <= at) next++
      const mapping = process.mappings[next]
      if (mapping === undefined || mapping.start > at) {
        problems.push(`memory at ${hex(at)} lies in no mapping`)
        break
      }
      at = mapping.end
    }
  }
  return problems
}
