/** A program of another monitor without a kernel (an image of the ScratchVM) → a microvm image, with the area of our monitor. */
import path from 'node:path'
import { R } from '../../isa/x86-64-kvm.js'
import { registersOfCpu, xsaveOfCpu } from '../../isa/x86-64-kvm-model.js'
import { KEPT_FLAGS, standsAtReturn, USER_END } from '../../isa/x86-64-program.js'
import { writeFileAtomically, writeFully } from '../../lib/atomic-file.js'
import { alignUp, alignUpBig } from '../../lib/bytes.js'
import { LossError, UnreadableError } from '../../lib/errors.js'
import type { HostedMapping, HostedProgram } from '../../model/hosted-program.js'
import type { Cpu, MachineImage } from '../../model/machine.js'
import { type Memory, PAGE_SIZE, PAGE_SIZE_BIG } from '../../model/memory.js'
import { writeExtent } from '../extent-file.js'
import type { Loss } from '../format.js'
import { extentsIn } from './extents.js'
import { guestMsrs, specialRegistersFor } from './guest-cpu.js'
import {
  LARGEST_MEMORY,
  type Layout,
  layoutFor,
  makeMonitorArea,
  pageTables,
  protectPages,
  SMALLEST_MEMORY,
} from './guest-layout.js'
import { encodeHeader } from './header.js'
import { fileKinds, type MicroVmRecord, type ProcessRecord } from './record.js'

/** 2 MiB: what the layout counts in. */
const GRAIN = 2 << 20
/** Memory is looked through in blocks of this size. */
const BLOCK = 1 << 20

/**
 * @throws LossError for a machine that is more than one program, UnreadableError for a program that stands in its monitor.
 */
export async function writeMicroVm(image: MachineImage, target: string): Promise<readonly Loss[]> {
  const program = onlyProgram(image)
  const layout = layoutOf(program)
  const cpu = programCpu(image)
  const mappings = wholePages(program)
  const area = monitorArea(layout, mappings)
  const record: MicroVmRecord = {
    memoryBytes: BigInt(layout.totalSize),
    usableBytes: BigInt(layout.memorySize),
    cpu: {
      registers: cpu.registers,
      special: specialRegistersFor(layout, cpu.fsBase, cpu.gsBase),
      msrs: guestMsrs(layout),
      xcr0: 7n,
      xsave: cpu.xsave,
      features: '',
    },
    process: processRecord(program, image.origin.format),
    signals: [],
    mappings,
    ...openFiles(program),
    extents: [...extentsOfMemory(image.memory, program.memorySize), ...extentsIn(area, layout.memorySize)],
    unknown: [],
  }
  const header = encodeHeader(record)
  writeFileAtomically(target, fd => {
    writeFully(fd, header, 0)
    for (const extent of image.memory.within(0n, BigInt(program.memorySize)))
      writeExtent(fd, extent, header.length + Number(extent.address))
    writeFully(fd, area, header.length + layout.memorySize)
  })
  return program.files.map(({ fd, name }) => ({
    kind: 'defaulted',
    subject: `fd ${fd}`,
    field: 'size and time of the file',
    detail: `not in the image: ${name} must reach to its offset when it is restored`,
  }))
}

/** The program that is all the machine runs. @throws LossError */
function onlyProgram({ program, cpus, origin }: MachineImage): HostedProgram {
  if (program === undefined || cpus.length !== 1)
    throw new LossError('a micro-VM runs one program without a kernel', {
      found: `a machine of format ${origin.format}, with a kernel of its own`,
      hint: 'imago vm resume lets a whole machine go on (in QEMU)',
    })
  if (origin.format === 'microvm') throw new LossError('this is a microvm image already')
  if (program.more.length > 0)
    throw new LossError('the program does not fit into a microvm image', { found: program.more[0] })
  return program
}

/** @throws LossError for more memory than a guest can have. */
function layoutOf(program: HostedProgram): Layout {
  const usable = Math.max(SMALLEST_MEMORY, Math.ceil(program.memorySize / GRAIN) * GRAIN)
  if (usable > LARGEST_MEMORY) throw new LossError('more memory than a guest can have', { found: usable })
  return layoutFor(usable)
}

const wholePages = ({ mappings }: HostedProgram) =>
  mappings.map(mapping => ({ ...mapping, end: alignUpBig(mapping.end, PAGE_SIZE_BIG) }))

/** Our monitor's area, whose page tables protect the mappings. */
function monitorArea(layout: Layout, mappings: readonly HostedMapping[]): Uint8Array {
  const area = Buffer.from(new ArrayBuffer(layout.areaSize))
  makeMonitorArea(area, layout)
  const tables = pageTables(area, layout)
  for (const { start, end, protection } of mappings)
    protectPages(tables, Number(start), Number(end), protection)
  return area
}

/** What the image does not say is as in a program that has just begun; its break is the end of its memory. */
function processRecord({ name, memorySize }: HostedProgram, engine: string): ProcessRecord {
  const end = alignUpBig(BigInt(memorySize), PAGE_SIZE_BIG)
  return {
    engine,
    name,
    rootFolder: process.cwd(),
    workingDirectory: '/',
    readOnly: false,
    umask: 0o022,
    brkStart: end,
    brk: end,
    clearTid: 0n,
    signalMask: 0n,
    pendingSignals: 0n,
    alternateStack: { address: 0n, size: 0n, flags: 2 },
    waitLeft: -1n,
    savedAt: 0n,
  }
}

/** The standard streams, and the program's own files behind them. */
function openFiles(program: HostedProgram): Pick<MicroVmRecord, 'files' | 'descriptors'> {
  const standard = ['stdin', 'stdout', 'stderr'].map((name, fd) =>
    file('standard', { name, path: name, flags: fd === 0 ? 0 : 1 }),
  )
  const own = program.files.map(({ name, flags, offset, writtenFrom }) =>
    file('regular', { name, path: path.posix.resolve('/', name), flags, offset, writtenFrom }),
  )
  const numbers = [0, 1, 2, ...program.files.map(({ fd }) => fd)]
  return {
    files: [...standard, ...own],
    descriptors: numbers.map((fd, i) => ({ fd, file: i, closeOnExec: 0 })),
  }
}

function file(
  kind: (typeof fileKinds)[number],
  known: { name: string; path: string; flags: number; offset?: bigint; writtenFrom?: bigint },
) {
  return {
    kind: fileKinds.indexOf(kind),
    mode: 0,
    pipe: -1,
    offset: 0n,
    size: 0n,
    mtime: 0n,
    writtenFrom: 0n,
    contentOffset: 0n,
    contentLength: 0n,
    contentDigest: new Uint8Array(32),
    ...known,
  }
}

/** The CPU in ring 3. A monitor that serves calls at a `hlt` saves its guest before the sysretq: that is undone here. */
function programCpu(image: MachineImage) {
  const cpu = image.cpus[0] as Cpu
  const registers = registersOfCpu(cpu)
  const next = image.memory.tryRead(cpu.rip, 4) ?? new Uint8Array()
  if (standsAtReturn(next)) {
    registers[R.rip] = registers[R.rcx]!
    registers[R.rflags] = registers[R.r11]!
  } else if (((cpu.segments.cs.attributes >> 5) & 3) !== 3)
    throw new UnreadableError('this guest was saved outside of its program', {
      file: image.origin.path,
      address: cpu.rip,
      found: Buffer.from(next).toString('hex'),
      expected: 'sysretq (480f07), or ring 3',
    })
  registers[R.rflags] = (registers[R.rflags]! & KEPT_FLAGS) | 2n
  const [fsBase, gsBase] = [cpu.segments.fs.base, cpu.segments.gs.base]
  if (fsBase >= USER_END || gsBase >= USER_END)
    throw new UnreadableError('a segment base is no user address', { file: image.origin.path })
  return { registers, fsBase, gsBase, xsave: xsaveOfCpu(cpu) }
}

function extentsOfMemory(memory: Memory, size: number): MicroVmRecord['extents'] {
  const extents: MicroVmRecord['extents'] = []
  for (let at = 0; at < size; at += BLOCK) {
    const length = Math.min(BLOCK, size - at)
    const block = new Uint8Array(alignUp(length, PAGE_SIZE))
    block.set(memory.read(BigInt(at), length))
    extents.push(...extentsIn(block, at))
  }
  return extents
}
