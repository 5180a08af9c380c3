/**
 * Every format, in the order in which they are probed: those with a magic first. Each entry loads its
 * reader and writer only when they are called, so that a verb pays for the one format it uses.
 */
import { core } from './core/format.js'
import { criu } from './criu/format.js'
import type { Format } from './format.js'
import { gem5, gem5Se } from './gem5/format.js'
import { microvm } from './microvm/format.js'
import { palacios } from './palacios/format.js'
import { qemu } from './qemu/format.js'
import { scratchvm } from './scratchvm/format.js'

export const table: readonly Format[] = [core, microvm, qemu, criu, gem5, gem5Se, palacios, scratchvm]
