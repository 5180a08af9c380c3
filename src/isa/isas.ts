/** The instruction sets that imago knows, by name. */
import type { IsaName } from '../model/process.js'
import { aarch64 } from './aarch64.js'
import type { Isa } from './isa.js'
import { x86_64 } from './x86-64.js'

export const isas: Readonly<Record<IsaName, Isa>> = { 'x86-64': x86_64, aarch64 }
