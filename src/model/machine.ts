/**
 * The neutral model of a frozen machine: CPU, memory and devices, whatever monitor or simulator froze it.
 */
import type { Memory } from './memory.js'
import type { Origin } from './process.js'

export interface MachineImage {
  readonly isa: 'x86-64'
  /** Guest physical memory. */
  readonly memory: Memory
  readonly origin: Origin
}
