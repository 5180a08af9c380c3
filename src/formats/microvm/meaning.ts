/** What readers of a microvm image rely on, beyond its layout. */
import { UnreadableError } from '../../lib/errors.js'
import { fileKinds, lockKinds, type MicroVmRecord } from './record.js'

/** Everything lies where it may, nothing overlaps. @throws UnreadableError */
export function checkMeaning(record: MicroVmRecord, file: string | undefined): void {
  const fail = (what: string, found?: bigint | number): never => {
    throw new UnreadableError(what, { file, found })
  }
  let end = 0n
  for (const m of record.mappings) {
    if (
      m.start < end ||
      m.end <= m.start ||
      m.end > record.usableBytes ||
      (m.start | m.end) % 4096n !== 0n ||
      m.protection > 7
    )
      fail('an impossible mapping', m.start)
    end = m.end
  }
  end = 0n
  for (const e of record.extents) {
    if (
      e.address < end ||
      e.length === 0n ||
      e.address + e.length > record.memoryBytes ||
      (e.address | e.length) % 4096n !== 0n
    )
      fail('an impossible extent of memory', e.address)
    end = e.address + e.length
  }
  for (const f of record.files) if (f.kind >= fileKinds.length) fail('an open file of unknown kind', f.kind)
  const fds = new Set<number>()
  for (const d of record.descriptors) {
    if (d.file >= record.files.length || d.fd > 4096 || fds.has(d.fd) || d.closeOnExec > 1)
      fail('an impossible descriptor', d.fd)
    fds.add(d.fd)
  }
  if (
    record.process.brkStart > record.usableBytes ||
    record.process.brk > record.usableBytes ||
    record.process.brk < record.process.brkStart
  )
    fail('an impossible heap', record.process.brk)
  const xsave = new DataView(record.cpu.xsave.buffer, record.cpu.xsave.byteOffset)
  if ((xsave.getUint32(24, true) & ~0xffff) !== 0) fail('impossible MXCSR', xsave.getUint32(24, true))
  if (
    (xsave.getBigUint64(512, true) & ~record.cpu.xcr0) !== 0n ||
    record.cpu.xsave.subarray(520, 576).some(byte => byte !== 0)
  )
    fail('an XSAVE header that XCR0 does not allow', xsave.getBigUint64(512, true))
  if ((record.cpu.xcr0 & 3n) !== 3n || (record.cpu.xcr0 & ~0xe7n) !== 0n)
    fail('impossible XCR0', record.cpu.xcr0)
  if (record.cpu.registers[16]! >= record.usableBytes)
    fail('rip lies outside of memory', record.cpu.registers[16]!)
  if ((record.cpu.registers[17]! & ~0x240dd7n) !== 0n) fail('impossible flags', record.cpu.registers[17]!)
  const isSignal = (signal: number) => signal >= 1 && signal <= 64
  for (const { signal } of [...record.signals, ...(record.pending ?? [])])
    if (!isSignal(signal)) fail('an impossible signal', signal)
  const ids = new Set<number>()
  for (const { id, signal } of record.timers ?? []) {
    if (id > 4096 || ids.has(id) || (signal !== 0 && !isSignal(signal))) fail('an impossible timer', id)
    ids.add(id)
  }
  for (const { file, kind, exclusive, start, length } of record.locks ?? []) {
    const open = record.files[file]
    if (open === undefined || fileKinds[open.kind] !== 'regular') fail('a lock of what is no open file', file)
    if (kind >= lockKinds.length || exclusive > 1 || start + length >= 1n << 63n)
      fail('an impossible lock', start)
  }
}
