/**
 * What the README of the ScratchVM says its terminal shows, line by line. D stands for a decimal number, H for a
 * hexadecimal one, BYTES for sixteen bytes: addresses, sizes and descriptor numbers are each machine's own.
 */
import { expect } from 'vitest'

const block = [
  '===== VM Image Info: ======',
  'Registers:',
  'RAX: 190',
  ...['RBX', 'RCX', 'RDX', 'RSI', 'RDI', 'RSP', 'RBP', 'RIP', 'RFLAGS'].map(name => `${name}: H`),
  'SRegisters:',
  ...['CR0', 'CR3', 'CR4'].map(name => `${name}: H`),
  'MSRs:',
  'Number of MSRs: 3',
  'EFER: c0000080',
  'STAR: c0000081',
  'LSTAR: c0000082',
  'Memory Size: D',
  'Guest Memory Physical Base: 0',
  'Number of Open Files: 1',
  'Open File 0 (./ay_caramba.txt): Guest FD: D, Host FD: D, Starting address: D, Offset: 16',
  'Upcoming instructions at RIP=0xH:',
  'BYTES',
  'BYTES',
  '==========================',
]

/** `make run`, up to the save. */
export const saved = [
  'VM_APP - OPEN ./ay_caramba.txt 32834 511 - return D',
  'VM_APP - WRITE D H 16 - return 16',
  'VM_APP - SAVE requested',
  ...block,
]
/** `make restore`. The text that the guest writes ends with a NUL, which a terminal does not show. */
export const restored = [
  ...block,
  'VM_APP - WRITE D H 12 - return 12',
  'File written successfully.',
  'VM_APP - WRITE 1 H 28 - return 28',
  'VM_APP - CLOSE D - return 0',
  'VM_APP - EXIT 0',
]
/** Ours says how long it took, too. */
const took = 'Took TIME'
export const sent = ['Connected to VMM in 127.0.0.1:D', 'Sent D bytes', took]
export const received = ['Waiting for VM image on port D...', 'Received D bytes', took, ...restored]

const pattern = (line: string) =>
  new RegExp(
    `^${line
      .replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
      .replace('TIME', '.*s, .*B/s')
      .replace('BYTES', '([0-9a-f]{2} ){15}[0-9a-f]{2}')
      .replace(/(?<=[ x])H\b/g, '[0-9a-f]+')
      .replace(/(?<=[ :])D\b/g, '\\d+')}$`,
  )

/** `text` has exactly these lines. */
export function expectTerminal(text: string, lines: readonly string[]): void {
  const found = text.replaceAll('\0', '').trimEnd().split('\n')
  for (const [i, line] of lines.entries()) expect(found[i], text).toMatch(pattern(line))
  expect(found.slice(lines.length)).toEqual([])
}
