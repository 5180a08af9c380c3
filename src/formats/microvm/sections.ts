/**
 * The sections of a microvm image, bytes ⇄ records. Texts are u32 length and bytes (Latin-1: paths are bytes), lists u32
 * count and entries. docs/formats/microvm.md has every field.
 */
import { REGS_SIZE, SREGS_SIZE } from '../../isa/x86-64-kvm.js'
import type { ByteReader, ByteWriter } from '../../lib/bytes.js'
import { UnreadableError } from '../../lib/errors.js'
import { limits } from '../../lib/limits.js'
import type { MicroVmRecord } from './record.js'

const MOST_XSAVE = 16384
const MOST_TEXT = 4096
const DIGEST = 32

/** Sections by kind. Others are kept as they are. */
export const SECTION = {
  cpu: 1,
  process: 2,
  signals: 3,
  mappings: 4,
  files: 5,
  extents: 6,
  timer: 7,
  cpuTime: 8,
  timers: 9,
  pending: 10,
  locks: 11,
} as const

const text = (w: ByteWriter, value: string) => {
  const bytes = Buffer.from(value, 'latin1')
  w.u32(bytes.length).put(bytes)
}
const readText = (r: ByteReader, what: string, most = MOST_TEXT): string => {
  const length = r.u32(what)
  if (length > most)
    throw new UnreadableError(`${what} is too long`, { found: length, expected: `at most ${most} bytes` })
  return Buffer.from(r.take(length, what)).toString('latin1')
}
const readList = <T>(r: ByteReader, most: number, smallest: number, what: string, one: () => T): T[] => {
  const count = r.u32(what)
  if (count > most || count * smallest > r.remaining)
    throw new UnreadableError(`too many ${what}`, {
      found: count,
      expected: `at most ${Math.min(most, Math.floor(r.remaining / smallest))}`,
    })
  return Array.from({ length: count }, one)
}

/** Each section: how it is written and read, side by side. */
export const codecs = {
  [SECTION.cpu]: {
    write(w: ByteWriter, { cpu }: MicroVmRecord) {
      for (const value of cpu.registers) w.u64(value)
      w.put(cpu.special).u32(cpu.msrs.length)
      for (const { index, value } of cpu.msrs) w.u32(index).u64(value)
      w.u64(cpu.xcr0).u32(cpu.xsave.length).put(cpu.xsave)
      text(w, cpu.features)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      const registers = BigUint64Array.from({ length: REGS_SIZE / 8 }, () => r.u64('register'))
      const special = r.take(SREGS_SIZE, 'special registers').slice()
      const msrs = readList(r, 256, 12, 'MSRs', () => ({ index: r.u32(), value: r.u64() }))
      const xcr0 = r.u64('XCR0')
      const length = r.u32('XSAVE length')
      if (length < 576 || length > MOST_XSAVE)
        throw new UnreadableError('impossible length of the XSAVE area', {
          found: length,
          expected: `576 to ${MOST_XSAVE}`,
        })
      const xsave = r.take(length, 'XSAVE area').slice()
      into.cpu = { registers, special, msrs, xcr0, xsave, features: readText(r, 'CPU features') }
    },
  },
  [SECTION.process]: {
    write(w: ByteWriter, { process: p }: MicroVmRecord) {
      w.u32(p.readOnly ? 1 : 0).u32(p.umask)
      for (const value of [p.brkStart, p.brk, p.clearTid, p.signalMask, p.pendingSignals]) w.u64(value)
      w.u64(p.alternateStack.address).u64(p.alternateStack.size).i32(p.alternateStack.flags)
      w.i64(p.waitLeft).u64(p.savedAt)
      for (const value of [p.engine, p.name, p.rootFolder, p.workingDirectory]) text(w, value)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      const flags = r.u32('process flags')
      if (flags > 1) throw new UnreadableError('unknown process flags', { found: flags, expected: '0 or 1' })
      const readOnly = flags === 1
      const umask = r.u32()
      const [brkStart, brk, clearTid, signalMask, pendingSignals] = Array.from({ length: 5 }, () =>
        r.u64(),
      ) as [bigint, bigint, bigint, bigint, bigint]
      const alternateStack = { address: r.u64(), size: r.u64(), flags: r.i32() }
      const waitLeft = r.i64()
      const savedAt = r.u64()
      const [engine, name, rootFolder, workingDirectory] = [
        'engine',
        'program',
        'root folder',
        'working directory',
      ].map(what => readText(r, what)) as [string, string, string, string]
      into.process = {
        engine,
        name,
        rootFolder,
        workingDirectory,
        readOnly,
        umask,
        brkStart,
        brk,
        clearTid,
        signalMask,
        pendingSignals,
        alternateStack,
        waitLeft,
        savedAt,
      }
    },
  },
  [SECTION.signals]: {
    write(w: ByteWriter, { signals }: MicroVmRecord) {
      w.u32(signals.length)
      for (const s of signals) w.u32(s.signal).u64(s.handler).u64(s.flags).u64(s.restorer).u64(s.mask)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      into.signals = readList(r, 64, 36, 'signal actions', () => ({
        signal: r.u32(),
        handler: r.u64(),
        flags: r.u64(),
        restorer: r.u64(),
        mask: r.u64(),
      }))
    },
  },
  [SECTION.mappings]: {
    write(w: ByteWriter, { mappings }: MicroVmRecord) {
      w.u32(mappings.length)
      for (const m of mappings) {
        w.u64(m.start).u64(m.end).u32(m.protection)
        text(w, m.name)
      }
    },
    read(r: ByteReader, into: MicroVmRecord) {
      into.mappings = readList(r, limits.memoryRanges, 24, 'mappings', () => ({
        start: r.u64(),
        end: r.u64(),
        protection: r.u32(),
        name: readText(r, 'name of a mapping'),
      }))
    },
  },
  [SECTION.files]: {
    write(w: ByteWriter, { files, descriptors }: MicroVmRecord) {
      w.u32(files.length)
      for (const f of files) {
        w.u32(f.kind).u32(f.flags).u32(f.mode).i32(f.pipe)
        for (const value of [f.offset, f.size, f.mtime, f.writtenFrom, f.contentOffset, f.contentLength])
          w.u64(value)
        w.put(f.contentDigest)
        text(w, f.path)
        text(w, f.name)
      }
      w.u32(descriptors.length)
      for (const d of descriptors) w.u32(d.fd).u32(d.file).u32(d.closeOnExec)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      into.files = readList(r, 4096, 104, 'open files', () => {
        const [kind, flags, mode] = [r.u32(), r.u32(), r.u32()] as const
        const pipe = r.i32()
        const [offset, size, mtime, writtenFrom, contentOffset, contentLength] = Array.from(
          { length: 6 },
          () => r.u64(),
        ) as [bigint, bigint, bigint, bigint, bigint, bigint]
        return {
          kind,
          flags,
          mode,
          pipe,
          offset,
          size,
          mtime,
          writtenFrom,
          contentOffset,
          contentLength,
          contentDigest: r.take(DIGEST, 'digest').slice(),
          path: readText(r, 'path'),
          name: readText(r, 'name of a file'),
        }
      })
      into.descriptors = readList(r, 4096, 12, 'descriptors', () => ({
        fd: r.u32(),
        file: r.u32(),
        closeOnExec: r.u32(),
      }))
    },
  },
  [SECTION.extents]: {
    write(w: ByteWriter, { extents }: MicroVmRecord) {
      w.u32(extents.length)
      for (const e of extents) w.u64(e.address).u64(e.length).u32(e.crc)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      into.extents = readList(r, limits.memoryRanges, 20, 'extents', () => ({
        address: r.u64(),
        length: r.u64(),
        crc: r.u32(),
      }))
    },
  },
  [SECTION.timer]: {
    present: (record: MicroVmRecord) => record.realTimer !== undefined,
    write(w: ByteWriter, { realTimer }: MicroVmRecord) {
      w.u64(realTimer!.left).u64(realTimer!.interval)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      into.realTimer = { left: r.u64('timer'), interval: r.u64('timer') }
    },
  },
  [SECTION.cpuTime]: {
    present: (record: MicroVmRecord) => record.cpuTime !== undefined,
    write(w: ByteWriter, { cpuTime }: MicroVmRecord) {
      w.u64(cpuTime!.used)
      for (const timer of [cpuTime!.virtual, cpuTime!.profiling]) w.u64(timer.left).u64(timer.interval)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      const used = r.u64('CPU time')
      const [virtual, profiling] = Array.from({ length: 2 }, () => ({
        left: r.u64('timer'),
        interval: r.u64('timer'),
      }))
      into.cpuTime = { used, virtual: virtual!, profiling: profiling! }
    },
  },
  [SECTION.timers]: {
    present: ({ timers }: MicroVmRecord) => timers !== undefined,
    write(w: ByteWriter, { timers }: MicroVmRecord) {
      w.u32(timers!.length)
      for (const t of timers!)
        w.u32(t.id).i32(t.clock).u32(t.signal).u32(t.overrun).u64(t.value).u64(t.left).u64(t.interval)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      into.timers = readList(r, 4096, 40, 'timers', () => {
        const [id, clock, signal, overrun] = [r.u32(), r.i32(), r.u32(), r.u32()] as const
        return { id, clock, signal, overrun, value: r.u64(), left: r.u64(), interval: r.u64() }
      })
    },
  },
  [SECTION.pending]: {
    present: ({ pending }: MicroVmRecord) => pending !== undefined,
    write(w: ByteWriter, { pending }: MicroVmRecord) {
      w.u32(pending!.length)
      for (const p of pending!) w.u32(p.signal).i32(p.code).i32(p.sender).i32(p.detail).u64(p.value)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      into.pending = readList(r, 4096, 24, 'pending signals', () => ({
        signal: r.u32(),
        code: r.i32(),
        sender: r.i32(),
        detail: r.i32(),
        value: r.u64(),
      }))
    },
  },
  [SECTION.locks]: {
    present: ({ locks }: MicroVmRecord) => locks !== undefined,
    write(w: ByteWriter, { locks }: MicroVmRecord) {
      w.u32(locks!.length)
      for (const l of locks!) w.u32(l.file).u32(l.kind).u32(l.exclusive).u64(l.start).u64(l.length)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      into.locks = readList(r, 65536, 28, 'locks', () => ({
        file: r.u32(),
        kind: r.u32(),
        exclusive: r.u32(),
        start: r.u64(),
        length: r.u64(),
      }))
    },
  },
} as const
