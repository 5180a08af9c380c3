import fs from 'node:fs'
import path from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { openStream, readStream } from '../../../src/formats/qemu/read-stream.js'
import type { QemuStream, StreamChanges } from '../../../src/formats/qemu/stream.js'
import { BufferSource } from '../../../src/lib/byte-source.js'
import { UnreadableError, UsageError } from '../../../src/lib/errors.js'
import { Memory } from '../../../src/model/memory.js'
import { type QemuSample, qemuSample, qemuSampleSource, qemuSamples } from '../../helpers/qemu-samples.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

function written(stream: QemuStream, changes: StreamChanges = {}): Buffer {
  const file = path.join(temporaryFolder(), 'stream')
  stream.write(file, changes)
  return fs.readFileSync(file)
}

const sample = (name: QemuSample) => readStream(qemuSampleSource(name))

describe('a QEMU migration stream', () => {
  it.each(qemuSamples)('%s: is written back byte for byte', name => {
    const bytes = qemuSample(name)
    expect(written(readStream(new BufferSource(bytes))).equals(bytes)).toBe(true)
  })

  it.each(qemuSamples)('%s: every byte of every device belongs to one field or a subsection mark', name => {
    for (const device of sample(name).devices) {
      let end = 0
      for (const field of device.fields) {
        expect(field.offset).toBeGreaterThanOrEqual(end)
        // What lies between two fields is the head of a subsection: mark, name, version.
        if (field.offset > end) expect(device.bytes[end]).toBe(5)
        end = field.offset + field.size * (field.count ?? 1)
      }
      expect(end).toBe(device.bytes.length)
    }
  })

  it('names machine, RAM blocks and devices', () => {
    const stream = sample('timer')
    expect(stream.machine).toBe('pc-i440fx-7.2')
    expect(stream.blocks.map(block => [block.name, block.size])).toContainEqual(['pc.ram', 32 << 20])
    expect(stream.device('i8259', 1)?.version).toBe(1)
    expect(stream.devices.length).toBe(33)
  })

  it('decodes the registers that the monitor showed when the sample was captured', () => {
    const cpu = sample('timer').requireDevice('cpu')
    expect(cpu.integer('env.eip')).toBe(0x100781n)
    expect(cpu.integers('env.regs')[3]).toBe(0x5851f42d4c957f2dn)
    expect(cpu.integer('env.segs[1].selector')).toBe(8n)
    expect(cpu.integer('env.segs[1].flags')).toBe(0xaf9b00n)
    expect(cpu.integer('env.cr[3]')).toBe(0x101000n)
    expect(cpu.integer('env.a20_mask')).toBe(-1n)
  })

  it('reads subsections under their own names, and fields that come twice with a number', () => {
    expect(sample('tmpl128').requireDevice('timer').has('timer/icount.qemu_icount_bias')).toBe(true)
    expect(sample('timer').requireDevice('i8254').has('channels[0].next_transition_time#2')).toBe(true)
  })

  it('finds the guest program at its address in RAM', () => {
    const ram = sample('timer').block('pc.ram')!.memory
    expect(Buffer.from(ram.read(0x100780n, 1)).toString('hex')).toBe('f4') // the HLT before env.eip
  })

  it('changes nothing but the patched fields', () => {
    const bytes = qemuSample('timer')
    const stream = readStream(new BufferSource(bytes))
    const cpu = stream.requireDevice('cpu').patched([['env.eip', 0x1122334455667788n]])
    const after = written(stream, { devices: [cpu] })
    const at = after.indexOf(Buffer.from('1122334455667788', 'hex'))
    expect(after.length).toBe(bytes.length)
    bytes.set(after.subarray(at, at + 8), at)
    expect(after.equals(bytes)).toBe(true)
  })

  it('holds the other memory when RAM is written anew, and the same devices', () => {
    const stream = sample('timer')
    const before = stream.block('pc.ram')!.memory
    const memory = before
      .patch(0x1ff0n, new Uint8Array(32).fill(0xab)) // across two pages
      .patch(0x200000n, new Uint8Array(4096).fill(7))
      .without(0x300000n, 0x302000n)
    const again = readStream(new BufferSource(written(stream, { memory: new Map([['pc.ram', memory]]) })))
    const ram = again.block('pc.ram')!.memory
    for (let at = 0n; at < 32n << 20n; at += 4096n) {
      const expected = new Uint8Array(4096)
      for (const piece of memory.within(at, at + 4096n))
        expected.set(Memory.from([piece]).read(piece.address, piece.length), Number(piece.address - at))
      expect(Buffer.from(ram.read(at, 4096)).equals(expected), `page ${at.toString(16)}`).toBe(true)
    }
    expect(again.devices.map(device => device.bytes)).toEqual(stream.devices.map(device => device.bytes))
    expect(again.block('pc.bios')!.memory.read(0n, 0x40000)).toEqual(
      stream.block('pc.bios')!.memory.read(0n, 0x40000),
    )
  })

  it('takes back any value of any field (property)', () => {
    const devices = sample('tmpl128').devices.filter(device => device.fields.length > 0)
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.infiniteStream(fc.bigInt(0n, (1n << 64n) - 1n)), (a, b, values) => {
        const device = devices[a % devices.length]!
        const field = device.fields[b % device.fields.length]!
        const old = device.value(field)
        const next = () => values.next().value as bigint
        if (old instanceof Uint8Array) {
          const bytes = old.map(() => Number(next() & 0xffn))
          expect(device.patched([[field.path, bytes]]).get(field.path)).toEqual(bytes)
        } else if (typeof old === 'bigint') {
          const value = next()
          const got = device.patched([[field.path, value]]).integer(field.path)
          expect(BigInt.asUintN(field.size * 8, got)).toBe(BigInt.asUintN(field.size * 8, value))
        } else {
          const several = old.map(next)
          const got = device.patched([[field.path, several]]).integers(field.path)
          expect(got.map(value => BigInt.asUintN(field.size * 8, value))).toEqual(
            several.map(value => BigInt.asUintN(field.size * 8, value)),
          )
        }
      }),
      { numRuns: 500 },
    )
  })

  it('refuses a device state or a RAM block that is not of this machine', () => {
    const stream = sample('timer')
    const other = sample('timer').requireDevice('0000:00:02.0/vga')
    expect(() => written(sample('timer-min'), { devices: [other] })).toThrow(UsageError)
    expect(() => written(stream, { memory: new Map([['mach.ram', Memory.empty]]) })).toThrow(UsageError)
    expect(() => stream.requireDevice('cpu').patched([['env.nothing', 1n]])).toThrow(UnreadableError)
    expect(() => stream.requireDevice('cpu').patched([['env.regs', [1n]]])).toThrow(RangeError)
  })

  it('takes the last of several copies of a page, as the loader does', () => {
    const ram = smallStream([page(0, 1), page(0x1000, 2), page(0, 3), zero(0x1000), page(0x2000, 4)]).block(
      'r',
    )!
    expect([0n, 0x1000n, 0x2000n].map(at => ram.memory.read(at, 1)[0])).toEqual([3, 0, 4])
    expect(ram.memory.tryRead(0x3000n, 1)).toBeUndefined()
  })

  it('reads pages of one repeated byte', () => {
    const ram = smallStream([fill(0x1000, 0x5a)]).block('r')!
    expect(ram.memory.read(0x1000n, 4096)).toEqual(new Uint8Array(4096).fill(0x5a))
  })

  it.each([
    ['pages that went over other channels', [fill(0x1000, 0x5a), record(0x200)], 'multifd'],
    ['compressed pages', [record(0x100)], 'unknown kind'],
    ['a page beyond its block', [page(0x10000, 1)], 'beyond the end'],
    ['a page that continues no block', [record(0x28)], 'continues no block'],
    [
      'a page of an unknown block',
      [Buffer.concat([record(8), Buffer.from('\x01x'), Buffer.alloc(4096)])],
      'unknown RAM block',
    ],
  ])('refuses %s', (_, records, message) => {
    expect(() => smallStream(records)).toThrow(message)
  })

  it('refuses a file in which RAM is laid out otherwise', () => {
    const name = Buffer.from('configuration/capabilities')
    const part = [Buffer.from([5, name.length]), name, u32(1), u32(1), Buffer.from('\x0amapped-ram')]
    expect(() => smallStream([], [Buffer.concat(part)])).toThrow("capability 'mapped-ram'")
  })

  it('reads capabilities and the other parts of a newer configuration section', () => {
    const part = (name: string, payload: Buffer) =>
      Buffer.concat([Buffer.from([5, name.length]), Buffer.from(name), Buffer.from([0, 0, 0, 1]), payload])
    const stream = smallStream(
      [],
      [
        part('configuration/target-page-bits', Buffer.from([0, 0, 0, 12])),
        part('configuration/capabilities', Buffer.from('\0\0\0\x01\x03abc')),
        part('configuration/uuid', Buffer.alloc(16)),
      ],
    )
    expect(stream.capabilities).toEqual(['abc'])
    expect(stream.machine).toBe('m')
  })

  it('never crashes or hangs on a damaged stream (mutation fuzz)', () => {
    const original = qemuSample('timer-min')
    const names = ['sections', 'devices', 'description'] as const
    const firstDevice = original.indexOf(Buffer.from('\x05timer'))
    const descriptionAt = original.indexOf('{"page_size"')
    const ranges = {
      sections: [0, 400],
      devices: [firstDevice, descriptionAt],
      description: [descriptionAt - 5, original.length],
    }
    fc.assert(
      fc.property(
        fc.constantFrom(...names),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.option(fc.nat(original.length), { freq: 8 }),
        (where, changes, cut) => {
          const [from, to] = ranges[where] as [number, number]
          const undo: [number, number][] = []
          for (const [offset, value] of changes) {
            const at = from + (offset % (to - from))
            undo.push([at, original[at]!])
            original[at] = value
          }
          try {
            const stream = readStream(new BufferSource(cut === null ? original : original.subarray(0, cut)))
            for (const device of stream.devices) for (const field of device.fields) device.value(field)
          } catch (error) {
            if (!(error instanceof UnreadableError)) throw error
          } finally {
            for (const [at, value] of undo.reverse()) original[at] = value
          }
        },
      ),
      { numRuns: rounds(10_000, 1_500) },
    )
  })

  it('says what to do about a file that is cut short', () => {
    const file = path.join(temporaryFolder(), 'cut')
    fs.writeFileSync(file, qemuSample('timer-min').subarray(0, 500_000))
    expect(() => openStream(file)).toThrow('without the description')
  })
})

const u32 = (value: number) => Buffer.from([value >>> 24, value >>> 16, value >>> 8, value])
const record = (value: number) => Buffer.concat([u32(0), u32(value)])
const page = (address: number, byte: number) =>
  Buffer.concat([record(address + 8), Buffer.from('\x01r'), Buffer.alloc(4096, byte)])
const fill = (address: number, byte: number) =>
  Buffer.concat([record(address + 2), Buffer.from('\x01r'), Buffer.from([byte])])
const zero = (address: number) => fill(address, 0)

/** A stream of one RAM block `r` of 64 KiB, these records, and no device. */
function smallStream(records: readonly Buffer[], configuration: readonly Buffer[] = []): QemuStream {
  const json = Buffer.from('{"page_size": 4096, "devices": []}')
  const footer = Buffer.concat([Buffer.from([0x7e]), u32(2)])
  return readStream(
    new BufferSource(
      Buffer.concat([
        Buffer.from('QEVM\0\0\0\x03\x07\0\0\0\x01m'),
        ...configuration,
        Buffer.concat([Buffer.from([1]), u32(2), Buffer.from('\x03ram'), u32(0), u32(4)]),
        Buffer.concat([record(0x10004), Buffer.from('\x01r'), record(0x10000), record(0x10), footer]),
        Buffer.concat([Buffer.from([3]), u32(2), ...records, record(0x10), footer]),
        Buffer.concat([Buffer.from([0, 6]), u32(json.length), json]),
      ]),
    ),
  )
}
