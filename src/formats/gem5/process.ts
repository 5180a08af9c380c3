/**
 * A process image as a gem5 SE-mode checkpoint (system-call emulation: the program without a kernel).
 *
 *   [system.cpu.workload]              brk, stack and mmap limits
 *   [….vmalist.VmaK]                   name, addrRangeStart, addrRangeEnd
 *   [….ptable.EntryK]                  vaddr, paddr, flags: one a page that holds something; others fault in as zeros
 *   [….fdarray.EntryK]                 class: 2 a file (0–2), 6 none; as many as the binary of gem5 has
 *   [system.workload.mempools.pool0]   the next free physical page
 *
 * The registers are those of a user in 64-bit mode, with the control registers that SE mode itself sets.
 * Source: gem5 v24 src/sim/process.cc, mem_state.cc, fd_array.cc, arch/x86/process.cc; a checkpoint of such a run.
 */
import fs from 'node:fs'
import path from 'node:path'
import { decodeFxsave } from '../../isa/fxsave.js'
import { writeDirectoryAtomically } from '../../lib/atomic-file.js'
import { FileSource } from '../../lib/byte-source.js'
import { isZero } from '../../lib/bytes.js'
import { LossError } from '../../lib/errors.js'
import { type Cpu, generalRegisters, noDevices } from '../../model/machine.js'
import { type Extent, extentEnd, Memory, PAGE_SIZE, PAGE_SIZE_BIG, ZERO } from '../../model/memory.js'
import type { Mapping, Process, ProcessImage } from '../../model/process.js'
import type { Loss } from '../format.js'
import { blankCheckpoint } from './blank-checkpoint.js'
import { CheckpointText } from './checkpoint-text.js'
import { readState, writeState } from './machine.js'
import { writeRam } from './ram.js'
import { restoreProcessScript } from './restore-script.js'

const CPU_CLOCK = 1_000_000_000
const USER_END = 0x7fff_ffff_f000n
const MAX_STACK = 64n << 20n
const SPARE_BYTES = 64 * 2 ** 20
const FD_COUNT = 1024
const FD_FILE = 2
const FD_NONE = 6
/** How far behind the executable the kernel puts the heap at most (arch_randomize_brk, and what lies between). */
const MAX_HEAP_GAP = 2n << 30n
const WORKLOAD = 'system.cpu.workload'

/** regVal of a process that gem5 has just started: control registers, MTRR capabilities, PAT, EFER, flat segments. */
const startRegisters: Readonly<Record<number, bigint>> = {
  0: 0x80000033n,
  4: 0x20000n,
  22: 0xffff0ff0n,
  23: 0x400n,
  27: 0x508n,
  31: 0x104n,
  66: 0x7040600070406n,
  100: 0x4d01n,
  115: 0x20601n,
  120: 0x4000000n,
  ...Object.fromEntries(Array.from({ length: 13 }, (_, i) => [178 + i, i === 1 ? 0xaad3n : 0xb3dbn])),
  192: 0x1f80n,
  193: 0x37fn,
  195: 0xffffn,
  202: 0xfee00900n,
}

export interface SeOptions {
  /** The executable, where the mapped file is no longer there. */
  readonly binary?: string
}

/** @throws LossError for what SE mode cannot run: threads, several processes, AVX registers in use, pages that are nowhere. */
export async function writeGem5Process(
  image: ProcessImage,
  target: string,
  options: SeOptions,
): Promise<readonly Loss[]> {
  const process = theProcess(image)
  const pages = pageTable(process, options)
  const used = pages.length * PAGE_SIZE
  const ramBytes = Math.ceil((used + SPARE_BYTES) / 2 ** 20) * 2 ** 20
  const text = processText(process, pages, ramBytes)
  const blank = readState(text)
  const cpu = userCpu(blank.cpu, process)
  const { losses } = writeState({ cpu, devices: { ...noDevices(), time: blank.devices.time } }, text, {
    cpuClock: CPU_CLOCK,
    apicClock: CPU_CLOCK,
  })
  const memory = Memory.from([
    ...pages.map(({ page }, i) => ({ ...page, address: BigInt(i) * PAGE_SIZE_BIG })),
    { address: BigInt(used), length: ramBytes - used, content: ZERO },
  ])
  await writeDirectoryAtomically(target, async folder => {
    await writeRam(text, memory, folder, { raw: false, sizeIsFixed: false })
    text.write(path.join(folder, 'm5.cpt'))
    const binary = options.binary ?? process.executable ?? 'PROGRAM'
    fs.writeFileSync(
      path.join(folder, 'restore.py'),
      restoreProcessScript({ ramBytes, binary, clock: CPU_CLOCK }),
    )
  })
  return [...losses, ...processLosses(process)]
}

function theProcess(image: ProcessImage): Process {
  const [process, ...others] = image.processes
  if (image.isa !== 'x86-64') throw new LossError(`gem5-se is written for x86-64, not ${image.isa}`)
  if (process === undefined || others.length > 0)
    throw new LossError(`SE mode runs one process; the image holds ${image.processes.length}`)
  if (process.threads.length !== 1)
    throw new LossError(`SE mode restores one thread; the process has ${process.threads.length}`, {
      hint: 'freeze it before it starts threads (OMP_NUM_THREADS=1 for OpenMP)',
    })
  const { vector } = process.threads[0]!.registers
  const components = vector?.isa === 'x86-64' ? vector.components : new Map<number, Uint8Array>()
  if (AVX_COMPONENTS.some(number => !isZero(components.get(number) ?? new Uint8Array())))
    throw new LossError('the program has AVX registers in use, and gem5 has none', {
      hint: 'run it again with GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-ERMS and built without -mavx or -march=native',
    })
  return process
}
/** XSAVE components: upper halves of YMM; AVX-512's masks and ZMM. Intel SDM 1, 13.1. */
const AVX_COMPONENTS = [2, 5, 6, 7]

/** Pages that hold something, in order of address; text that the image leaves to its file is taken from there. */
function pageTable(process: Process, options: SeOptions): { address: bigint; page: Extent }[] {
  const pages: { address: bigint; page: Extent }[] = []
  for (const mapping of process.mappings) {
    if (mapping.start >= USER_END || mapping.kind === 'vvar') continue
    let at = mapping.start
    for (const extent of process.memory.within(mapping.start, mapping.end)) {
      if (extent.address > at) pages.push(...filePages(mapping, at, extent.address, process, options))
      for (; at < extentEnd(extent); at += PAGE_SIZE_BIG) {
        const bytes = process.memory.tryRead(at, PAGE_SIZE)
        const [page] = process.memory.within(at, at + PAGE_SIZE_BIG)
        if (page === undefined || bytes === undefined || isZero(bytes)) continue
        const whole =
          page.length === PAGE_SIZE
            ? page
            : { ...page, length: PAGE_SIZE, content: { kind: 'bytes' as const, bytes } }
        pages.push({ address: at, page: whole })
      }
    }
    if (at < mapping.end) pages.push(...filePages(mapping, at, mapping.end, process, options))
  }
  return pages
}

/** The pages of a file mapping that the image does not hold: they are as in the file. */
function filePages(
  mapping: Mapping,
  from: bigint,
  to: bigint,
  process: Process,
  { binary }: SeOptions,
): { address: bigint; page: Extent }[] {
  if (mapping.file === undefined || !mapping.read) return []
  const name = binary !== undefined && mapping.file.path === process.executable ? binary : mapping.file.path
  if (mapping.file.deleted || !fs.existsSync(name))
    throw new LossError('the image does not hold a mapped file, and it is not there', {
      file: name,
      address: from,
      hint: 'give the executable with --binary, or freeze with all pages',
    })
  const source = new FileSource(name)
  const pages: { address: bigint; page: Extent }[] = []
  for (let at = from; at < to; at += PAGE_SIZE_BIG) {
    const offset = Number(mapping.file.offset + (at - mapping.start))
    const length = Math.min(PAGE_SIZE, source.size - offset)
    if (length <= 0) break
    const bytes = new Uint8Array(PAGE_SIZE)
    bytes.set(source.read(offset, length))
    const content =
      length === PAGE_SIZE ? { kind: 'slice' as const, source, offset } : { kind: 'bytes' as const, bytes }
    if (!isZero(bytes)) pages.push({ address: at, page: { address: at, length: PAGE_SIZE, content } })
  }
  return pages
}

/** All sections but the registers, which the table of the machine writes. */
function processText(
  process: Process,
  pages: readonly { address: bigint }[],
  ramBytes: number,
): CheckpointText {
  const text = blankCheckpoint('v24')
  text.remove(name => name.startsWith('system.pc'))
  const registers = Array.from({ length: 205 }, (_, i) => startRegisters[i] ?? 0n)
  text.set('system.cpu.isa', 'regVal', registers.join(' '))
  text.set('root', 'FullSystem', 'false')
  const lines: string[] = []
  const section = (name: string, keys: Record<string, string | bigint | number | boolean>) =>
    lines.push('', `[${name}]`, ...Object.entries(keys).map(([key, value]) => `${key}=${value}`))
  const stack = process.mappings.find(mapping => mapping.kind === 'stack')
  const heapEnd = programBreak(process)
  const stackBase = stack?.end ?? USER_END
  const stackSize = stack ? stack.end - stack.start : 0n
  const maxStackSize = stackSize > MAX_STACK ? stackSize : MAX_STACK
  // New areas are placed downwards from the lowest one there is, and never where the stack may grow.
  const areaEnds = process.mappings
    .filter(mapping => mapping.start >= heapEnd && mapping.kind !== 'stack' && mapping.end <= stackBase)
    .map(mapping => mapping.start)
  section(WORKLOAD, {
    brkPoint: heapEnd,
    stackBase,
    stackSize,
    maxStackSize,
    stackMin: stack?.start ?? stackBase,
    nextThreadStackBase: stackBase - maxStackSize,
    mmapEnd: [...areaEnds, stackBase - maxStackSize].reduce((a, b) => (a < b ? a : b)),
  })
  const areas = process.mappings.filter(({ start, kind }) => start < USER_END && kind !== 'vvar')
  section(`${WORKLOAD}.vmalist`, { size: areas.length })
  for (const [i, { start, end, kind }] of areas.entries())
    section(`${WORKLOAD}.vmalist.Vma${i}`, {
      name: kind === 'stack' || kind === 'heap' ? kind : `anon${i}`,
      addrRangeStart: start,
      addrRangeEnd: end,
    })
  section(`${WORKLOAD}.ptable`, { size: pages.length })
  for (const [i, { address }] of pages.entries())
    section(`${WORKLOAD}.ptable.Entry${i}`, { vaddr: address, paddr: i * PAGE_SIZE, flags: 0 })
  section(`${WORKLOAD}.fdarray`, { size: FD_COUNT })
  for (let i = 0; i < FD_COUNT; i++)
    section(`${WORKLOAD}.fdarray.Entry${i}`, i < 3 ? standardStream(i) : { class: FD_NONE })
  section('system.workload.mempools', { num_pools: 1 })
  section('system.workload.mempools.pool0', {
    page_shift: 12,
    start_page: 0,
    free_page_num: pages.length,
    total_pages: ramBytes / PAGE_SIZE,
  })
  return CheckpointText.fromString(`${text.toString()}${lines.join('\n')}\n`)
}

/**
 * The end of the heap, a whole page (gem5 maps from here when the heap grows). A core of gdb or of the kernel does not say
 * it: then it is where the last memory without a file ends that lies closely behind the executable.
 */
function programBreak({ layout, mappings, executable }: Process): bigint {
  if (layout.brk > 0n) return ((layout.brk + PAGE_SIZE_BIG - 1n) / PAGE_SIZE_BIG) * PAGE_SIZE_BIG
  const program = mappings.filter(({ file }) => file !== undefined && file.path === executable)
  let end = program.at(-1)?.end ?? 0n
  for (const { start, end: next, file, write, execute, kind } of mappings)
    if (file === undefined && write && !execute && kind !== 'stack')
      if (start >= end && start - end < MAX_HEAP_GAP) end = next
  return end
}

/** What gem5 itself writes for the three; it connects them anew when it loads. */
const standardStream = (fd: number) => ({
  class: FD_FILE,
  _closeOnExec: false,
  _flags: fd === 0 ? 0 : 577,
  _fileName: ['cin', 'cout', 'cerr'][fd]!,
  _fileOffset: fd === 0 ? '0' : '18446744073709551615',
  _mode: fd === 0 ? 96 : 0,
})

/** Error numbers by which the kernel tells itself to make a system call again (include/linux/errno.h). */
const RESTART = { first: -514n, last: -512n, block: -516n } as const
const SYS_RESTART = 219n

function userCpu(blank: Cpu, process: Process): Cpu {
  const { general, vector } = process.threads[0]!.registers
  const get = (name: string) => general.get(name) ?? 0n
  const cpu: Cpu = {
    ...blank,
    general: Object.fromEntries(generalRegisters.map(name => [name, get(name)])) as Cpu['general'],
    rip: get('rip'),
    // Trap and resume flags belong to a debugger.
    rflags: (get('rflags') & ~0x10100n) | 2n,
    segments: {
      ...blank.segments,
      fs: { ...blank.segments.fs, base: get('fs_base') },
      gs: { ...blank.segments.gs, base: get('gs_base') },
    },
  }
  // A process frozen inside a system call that the kernel would repeat: stand at the call again.
  const result = BigInt.asIntN(64, cpu.general.rax)
  const call = BigInt.asIntN(64, get('orig_rax'))
  const repeats = result >= RESTART.first && result <= RESTART.last
  if (call >= 0n && (repeats || result === RESTART.block)) {
    cpu.general.rax = repeats ? call : SYS_RESTART
    cpu.rip -= 2n
  }
  if (vector?.isa === 'x86-64') Object.assign(cpu, decodeFxsave(vector.fxsave))
  return cpu
}

function processLosses(process: Process): Loss[] {
  const dropped = (subject: string, field: string, detail: string): Loss => ({
    kind: 'dropped',
    subject,
    field,
    detail,
  })
  const losses = process.files
    .filter(({ fd }) => fd > 2)
    .map(({ fd }) => dropped(`fd ${fd}`, 'all', 'SE mode restores fds 0–2 only'))
  if (process.layout.brk === 0n)
    losses.push({
      kind: 'defaulted',
      subject: 'process',
      field: 'brk',
      detail: 'the image does not say where the heap ends: taken from its memory map',
    })
  if (process.signalActions.size > 0)
    losses.push(dropped('process', 'signal actions', `${process.signalActions.size}`))
  if (process.intervalTimers.length + process.posixTimers.length > 0)
    losses.push(dropped('process', 'timers', `${process.intervalTimers.length + process.posixTimers.length}`))
  if (process.mappings.some(({ kind }) => kind === 'vvar'))
    losses.push(
      dropped(
        'process',
        'vvar',
        'clock calls through the vDSO read it; link statically against musl or avoid them',
      ),
    )
  return losses
}
