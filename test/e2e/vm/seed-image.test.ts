import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { decodeScratch } from '../../../src/formats/scratchvm/record.js'
import { imago } from '../../helpers/imago.js'
import { sampleTexts, scratchSample } from '../../helpers/scratch-sample.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { guest, missingForGuests } from './guests.js'

const both = 'Hello World !!!\nBye Bye !!!\n'

for (const packed of [false, true])
  test(`an image of the ScratchVM (${packed ? 'packed' : 'padded'}) goes on with its open file`, ({
    skip,
  }) => {
    const missing = missingForGuests()
    skip(missing !== undefined, missing)
    const folder = temporaryFolder()
    fs.writeFileSync(path.join(folder, 'vm_image.sav'), scratchSample({ packed }))
    fs.writeFileSync(path.join(folder, 'ay_caramba.txt'), sampleTexts.before)
    const restored = imago(['vm', 'restore', '--trace', 'vm_image.sav'], { cwd: folder })
    expect(restored).toMatchObject({ code: 0, stdout: sampleTexts.said })
    expect(restored.stderr).toContain('RIP: 80a1\n')
    expect(restored.stderr).toContain(
      'Open File 0 (./ay_caramba.txt): Guest FD: 8, Host FD: 8, Starting address: 40960, Offset: 16\n',
    )
    expect(restored.stderr.slice(restored.stderr.indexOf('VM_APP'))).toBe(
      'VM_APP - WRITE 8 a100 12 - return 12\nVM_APP - WRITE 1 a200 8 - return 8\nVM_APP - CLOSE 8 - return 0\nVM_APP - EXIT 0\n',
    )
    expect(fs.readFileSync(path.join(folder, 'ay_caramba.txt'), 'utf8')).toBe(both)
  })

test('a file that is gone is refused by name, and written anew from guest memory when asked', ({ skip }) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const folder = temporaryFolder()
  const file = path.join(folder, 'ay_caramba.txt')
  fs.writeFileSync(path.join(folder, 'vm_image.sav'), scratchSample())
  const refused = imago(['vm', 'restore', '-q', 'vm_image.sav'], { cwd: folder })
  expect(refused.code).toBe(4)
  expect(refused.stderr).toContain('the open file ./ay_caramba.txt is not as it was')
  expect(fs.existsSync(file)).toBe(false)
  fs.writeFileSync(file, 'short')
  expect(imago(['vm', 'restore', '-q', 'vm_image.sav'], { cwd: folder }).stderr).toContain('5 bytes now')
  const restored = imago(['vm', 'restore', '-q', '--files=restore-content', 'vm_image.sav'], { cwd: folder })
  expect(restored.code).toBe(0)
  expect(fs.readFileSync(file, 'utf8')).toBe(both)
})

test('vm run --seed-image writes an image that goes on, and the memory beside it', ({ skip }) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const folder = temporaryFolder()
  const saved = imago(['vm', 'run', '--seed-image', '-o', 'c.vm', guest('caramba-seed')], { cwd: folder })
  expect(saved.code).toBe(0)
  const bytes = fs.readFileSync(path.join(folder, 'vm_image.sav'))
  const memory = fs.readFileSync(path.join(folder, 'mem2.txt'))
  expect(bytes.length).toBe(1_002_376)
  expect(memory.equals(bytes.subarray(1408, 1408 + 61_440))).toBe(true)
  const record = decodeScratch(bytes)
  expect(record.registers[0]).toBe(400n)
  expect(record.registers[16]).toBe(0x80a1n) // in ring 0, at the sysretq, as the ScratchVM saves
  expect(saved.stderr).toContain('Upcoming instructions at RIP=0x80a1:\n48 0f 07 00')
  for (const engine of ['kvm', 'unicorn']) {
    const copy = temporaryFolder()
    fs.copyFileSync(path.join(folder, 'vm_image.sav'), path.join(copy, 'vm_image.sav'))
    fs.writeFileSync(path.join(copy, 'ay_caramba.txt'), sampleTexts.before)
    const restored = imago(['vm', 'restore', '-q', '--engine', engine, 'vm_image.sav'], { cwd: copy })
    expect(restored).toMatchObject({ code: 0, stdout: 'File written successfully.\n\0' })
    expect(fs.readFileSync(path.join(copy, 'ay_caramba.txt'), 'utf8')).toBe(both)
  }
})

test('a program too large for the ScratchVM is refused before it runs, with the cure', ({ skip }) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const folder = temporaryFolder()
  const refused = imago(['vm', 'run', '--seed-image', guest('caramba')], { cwd: folder })
  expect(refused.code).toBe(2)
  expect(refused.stderr).toContain('-Wl,-Ttext-segment=0x9000')
  expect(fs.readdirSync(folder)).toEqual([])
})
