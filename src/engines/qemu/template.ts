/**
 * Templates: streams into which other machines are poured. A template must come from the very command line that
 * will load it, with the firmware's work done, so a tiny guest of ours is booted and captured.
 *
 *   0x100000   multiboot header (magic, flags, checksum, five addresses)
 *   0x100020   mov dx, 3f8; mov al, 'T'; out dx, al; L: hlt; jmp L
 *
 * Source of the header: Multiboot Specification 0.6.96, 3.1.1.
 */
import fs from 'node:fs'
import path from 'node:path'
import { temporaryName } from '../../lib/atomic-file.js'
import { capture } from './capture.js'
import type { MachineLine } from './machine-line.js'

const LOAD_ADDRESS = 0x100000
const MAGIC = 0x1badb002
/** Bit 16: the addresses in the header count, the file need not be ELF. */
const FLAGS = 0x00010000

// biome-ignore format: one instruction a line
const code = [
  0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
  0xb0, 0x54,             // mov al, 'T'
  0xee,                   // out dx, al
  0xf4,                   // hlt
  0xeb, 0xfd,             // jmp to the hlt
]

/** The guest, as QEMU's -kernel takes it. */
export function templateGuest(): Uint8Array {
  const header = Buffer.alloc(32)
  const end = LOAD_ADDRESS + header.length + code.length
  const entry = LOAD_ADDRESS + header.length
  const fields = [MAGIC, FLAGS, -(MAGIC + FLAGS) >>> 0, LOAD_ADDRESS, LOAD_ADDRESS, end, end, entry]
  for (const [i, field] of fields.entries()) header.writeUInt32LE(field, i * 4)
  return Buffer.concat([header, Buffer.from(code)])
}

/** Makes a template for `line` at `output` (and its record beside it). Takes about a second. */
export async function makeTemplate(line: MachineLine, output: string): Promise<void> {
  const guest = temporaryName(path.resolve(output))
  fs.writeFileSync(guest, templateGuest(), { flag: 'wx' })
  try {
    await capture({ line, boot: { kernel: guest }, until: { kind: 'serial', text: 'T' }, output })
  } finally {
    fs.rmSync(guest, { force: true })
  }
}
