import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { guest, missingForGuests } from './guests.js'

/** The README of the ScratchVM, with addresses, sizes and descriptors as patterns. */
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
const pattern = (line: string) =>
  new RegExp(
    `^${line
      .replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
      .replace('BYTES', '([0-9a-f]{2} ?){16}')
      .replace(/(?<=: |RIP=0x)H/, '[0-9a-f]+')
      .replace(/(?<=: )D/g, '\\d+')}$`,
  )

function expectLines(text: string, lines: readonly string[]): void {
  const found = text.split('\n')
  for (const [i, line] of lines.entries()) expect(found[i]).toMatch(pattern(line))
}

test('the flow of the ScratchVM: open, write, save, and after a restore write and close', ({ skip }) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const folder = temporaryFolder()
  const image = path.join(folder, 'caramba.vm')
  const file = path.join(folder, 'ay_caramba.txt')

  const saved = imago(['vm', 'run', '--trace', '-o', image, guest('caramba')], { cwd: folder })
  expect(saved.code).toBe(0)
  expectLines(saved.stderr, [
    'VM_APP - OPEN ./ay_caramba.txt 32834 511 - return 3',
    'VM_APP - WRITE 3 402011 16 - return 16',
    'VM_APP - SAVE requested',
    ...block,
  ])
  expect(fs.readFileSync(file, 'utf8')).toBe('Hello World !!!\n')

  const restored = imago(['vm', 'restore', '--trace', image], { cwd: folder })
  expect(restored.code).toBe(0)
  expect(restored.stdout).toBe('File written successfully.\n\0')
  expectLines(restored.stderr, [
    ...block,
    'VM_APP - WRITE 3 402022 12 - return 12',
    'VM_APP - WRITE 1 40202f 28 - return 28',
    'VM_APP - CLOSE 3 - return 0',
    'VM_APP - EXIT 0',
  ])
  expect(fs.readFileSync(file, 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
})

test('a restore that would write into a changed file refuses and says what changed', ({ skip }) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const folder = temporaryFolder()
  const image = path.join(folder, 'caramba.vm')
  const file = path.join(folder, 'ay_caramba.txt')
  imago(['vm', 'run', '-q', '--with-files', '-o', image, guest('caramba')], { cwd: folder })
  fs.writeFileSync(file, 'something else')

  const refused = imago(['vm', 'restore', '-q', image], { cwd: folder })
  expect(refused.code).toBe(4)
  expect(refused.stderr).toContain('the open file ./ay_caramba.txt is not as it was')
  expect(refused.stderr).toContain('14 bytes now, 16 bytes at the save')
  expect(fs.readFileSync(file, 'utf8')).toBe('something else')

  const restored = imago(['vm', 'restore', '-q', '--files=restore-content', image], { cwd: folder })
  expect(restored.code).toBe(0)
  expect(fs.readFileSync(file, 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
})

test('the exit code and the arguments of a musl program are its own', ({ skip }) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const result = imago(['vm', 'run', guest('hello'), 'a', '--flag', 'b'])
  expect(result).toMatchObject({ code: 7, stdout: `${guest('hello')} a --flag b\n` })
})
