import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { expect, test } from 'vitest'
import { decodeScratch } from '../../../src/formats/scratchvm/record.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { imago } from '../../helpers/imago.js'
import { sampleTexts, scratchSample } from '../../helpers/scratch-sample.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { guest, needGuests } from './guests.js'
import { serve } from './running.js'

const both = 'Hello World !!!\nBye Bye !!!\n'

for (const packed of [false, true])
  test(`an image of the ScratchVM (${packed ? 'packed' : 'padded'}) goes on with its open file`, ({
    skip,
  }) => {
    needGuests(skip)
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
  needGuests(skip)
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
  needGuests(skip)
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

test('an image travels from the ScratchVM to a microvm image and back, and goes on from each', ({ skip }) => {
  needGuests(skip)
  const folder = temporaryFolder()
  const at = (name: string) => path.join(folder, name)
  fs.writeFileSync(at('a.sav'), scratchSample())
  const file = at('ay_caramba.txt')
  const converted = imago(['convert', 'a.sav', '--to', 'microvm', '-o', 'b.vm', '--json'], { cwd: folder })
  expect(JSON.parse(converted.stdout).losses).toMatchObject([{ kind: 'defaulted', subject: 'fd 8' }])
  expect(imago(['verify', 'b.vm'], { cwd: folder }).code).toBe(0)
  expect(imago(['convert', 'b.vm', '--to', 'scratchvm', '-o', 'c.sav'], { cwd: folder }).code).toBe(0)
  expect(imago(['convert', 'a.sav', '--to', 'scratchvm', '-o', 'd.sav'], { cwd: folder }).code).toBe(0)
  expect(fs.readFileSync(at('d.sav')).equals(fs.readFileSync(at('a.sav')))).toBe(true)
  for (const image of ['b.vm', 'c.sav'])
    for (const engine of ['kvm', 'unicorn']) {
      fs.writeFileSync(file, sampleTexts.before)
      const words = ['vm', 'restore', '-q', '--engine', engine, image]
      expect(imago(words, { cwd: folder })).toMatchObject({ code: 0, stdout: sampleTexts.said })
      expect(fs.readFileSync(file, 'utf8')).toBe(both)
    }
  fs.writeFileSync(file, 'short')
  const refused = imago(['vm', 'restore', '-q', 'b.vm'], { cwd: folder })
  expect(refused.code).toBe(4)
  expect(refused.stderr).toContain('5 bytes now, at least 16 at the save')
})

test('what does not fit into a format is refused with the reason, and nothing is written', ({ skip }) => {
  needGuests(skip)
  const folder = temporaryFolder()
  expect(imago(['vm', 'run', '-q', '-o', 'c.vm', guest('caramba')], { cwd: folder }).code).toBe(0)
  const large = imago(['convert', 'c.vm', '--to', 'scratchvm', '-o', 'c.sav'], { cwd: folder })
  expect(large.code).toBe(4)
  expect(large.stderr).toMatch(/found: +memory at 0x400000 \(program\)/)
  const machine = path.join(packageRoot, 'test/data/machine/palacios-synthetic')
  for (const format of ['microvm', 'scratchvm']) {
    const kernel = imago(['convert', machine, '--to', format, '-o', 'p'], { cwd: folder })
    expect(kernel.code).toBe(4)
    expect(kernel.stderr).toContain('with a kernel of its own')
  }
  expect(fs.readdirSync(folder).sort()).toEqual(['ay_caramba.txt', 'c.vm'])
})

test("inspect prints the ScratchVM's block and the upcoming instructions in words", () => {
  const folder = temporaryFolder()
  fs.writeFileSync(path.join(folder, 'vm_image.sav'), scratchSample())
  const text = imago(['inspect', 'vm_image.sav'], { cwd: folder }).stdout
  expect(text).toContain('===== VM Image Info: ======\nRegisters:\nRAX: 190\n')
  expect(text).toContain('MSRs:\nNumber of MSRs: 3\nEFER: c0000080\n')
  expect(text).toMatch(/\n {2}0x80a1 +480f07 +sysretq\n/)
  const json = JSON.parse(imago(['inspect', '--json', 'vm_image.sav'], { cwd: folder }).stdout)
  expect(json.upcoming[0]).toEqual({ address: '0x80a1', bytes: '480f07', text: 'sysretq' })
})

test('a program too large for the ScratchVM is refused before it runs, with the cure', ({ skip }) => {
  needGuests(skip)
  const folder = temporaryFolder()
  const refused = imago(['vm', 'run', '--seed-image', guest('caramba')], { cwd: folder })
  expect(refused.code).toBe(2)
  expect(refused.stderr).toContain('-Wl,-Ttext-segment=0x9000')
  expect(fs.readdirSync(folder)).toEqual([])
})

test("the ScratchVM's boot runs where KVM has a ring 0, and is refused in plain words elsewhere", ({
  skip,
}) => {
  needGuests(skip)
  const folder = temporaryFolder()
  const words = ['vm', 'run', '--trace', '--boot', guest('boot.bin'), '--program', guest('caramba-seed')]
  const booted = imago(words, { cwd: folder })
  if (booted.code === 5) {
    expect(booted.stderr).toContain("this host's KVM is nested PVM")
    expect(booted.stderr).toContain('imago vm run --seed-image PROGRAM')
  } else expect(booted).toMatchObject({ code: 0, stderr: expect.stringContaining('SAVE requested') })
  expect(imago(words.slice(0, 5), { cwd: folder }).stderr).toContain('--boot and --program belong together')
})

test("the ScratchVM's own network form: a program is sent when it asks to be saved, and goes on at the server", async ({
  skip,
}) => {
  needGuests(skip)
  const [here, there] = [temporaryFolder(), temporaryFolder()]
  const server = await serve(there, '--seed', '--trace')
  const { port } = server
  // Something that is no image is refused, and the server waits on.
  const stranger = net.connect(port, '127.0.0.1', () => stranger.end('GET / HTTP/1.0\r\n\r\n'))
  await once(stranger.resume(), 'close')

  fs.writeFileSync(path.join(there, 'ay_caramba.txt'), sampleTexts.before)
  const sent = imago(['vm', 'send', '--seed', '--run', guest('caramba-seed'), `127.0.0.1:${port}`], {
    cwd: here,
  })
  expect(sent.stderr).toContain(`Connected to VMM in 127.0.0.1:${port}\nSent 1002376 bytes\n`)
  expect(sent.code).toBe(0)
  expect(await server.ended, server.output()).toBe(0)
  expect(server.output()).toContain('a machine did not arrive: not an image of the ScratchVM')
  expect(server.output()).toMatch(/Received 1002376 bytes\nTook .*B\/s\n===== VM Image Info: ======\n/)
  expect(server.output()).toContain('VM_APP - EXIT 0')
  expect(fs.readFileSync(path.join(there, 'ay_caramba.txt'), 'utf8')).toBe(both)
  expect(fs.readFileSync(path.join(here, 'ay_caramba.txt'), 'utf8')).toBe(sampleTexts.before)
})

test('a sender without a server tries again every second, and only an image of the ScratchVM travels so', () => {
  const folder = temporaryFolder()
  fs.writeFileSync(path.join(folder, 'vm_image.sav'), scratchSample())
  fs.writeFileSync(path.join(folder, 'other'), 'no image')
  const send = (image: string) =>
    imago(['vm', 'send', '--seed', '--retries', '1', image, '127.0.0.1:1'], { cwd: folder })
  expect(send('vm_image.sav').stderr).toMatch(
    /^connect failed, retry in 1 second\.\.\.\n[\s\S]*cannot connect/,
  )
  expect(send('other').stderr).toContain('only an image of the ScratchVM travels in its own form')
})
