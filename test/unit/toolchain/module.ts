import { type Module, parseModule } from '../../../src/toolchain/ir.js'

/** IR as a module of its own, with the data layout that every module begins with. */
export const module = (body: string): Module => parseModule(`target datalayout = "e"\n${body}`)
