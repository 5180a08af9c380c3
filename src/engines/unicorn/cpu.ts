/**
 * A virtual CPU of libunicorn (QEMU's translator as a library): the same guests without /dev/kvm, 13 to 100 times
 * slower than native. It has no paging here: each mapping of the guest is mapped at its own address, with its
 * protection, onto the same host memory that KVM would use. It knows no AVX; a guest of the x86-64 baseline needs none.
 *
 * The hooks of `syscall` are native functions of the library itself, so that a system call costs no call into
 * JavaScript: uc_emu_stop ends the run, and uc_context_save leaves a mark that tells it from a stop from outside.
 */
import koffi from 'koffi'
import { R, registerNames } from '../../isa/x86-64-kvm.js'
import { HostError, ImagoError, LossError } from '../../lib/errors.js'
import { PAGE_SIZE } from '../../model/memory.js'
import {
  type CpuExit,
  type CpuState,
  initialXsave,
  type StopHandle,
  type VirtualCpu,
} from '../microvm/cpu.js'
import type { GuestMemory } from '../microvm/guest-memory.js'
import {
  hostCall,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  mapMemory,
  NR,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
  viewOf,
} from '../microvm/libc.js'
import { MappingTable } from '../microvm/mappings.js'

const ARCH_X86 = 4
const MODE_64 = 8
const HOOK = { interrupt: 1, instruction: 2, block: 8, invalidMemory: 0x3f0 } as const
const INSTRUCTION_SYSCALL = 699
const ALL_ADDRESSES: readonly [bigint, bigint] = [1n, 0n]

/** Register numbers of unicorn/x86.h. */
const ID = {
  ...{ rax: 35, rbx: 37, rcx: 38, rdx: 40, rsi: 43, rdi: 39, rsp: 44, rbp: 36, r8: 106, r9: 107, r10: 108 },
  ...{ r11: 109, r12: 110, r13: 111, r14: 112, r15: 113, rip: 41, rflags: 253 },
} as Readonly<Record<string, number>>
/** No stack pointer of a guest: not canonical. */
const UNREACHED = 0x5a5a_5a5a_5a5a_5a5an
const FP0 = 82
const XMM0 = 122
const FPSW = 31
const FPCW = 246
const FPTAG = 247
const MXCSR = 249
const FS_BASE = 250
const GS_BASE = 251

/** uc_err → exception: unmapped and protected accesses are page faults, with the error code that a CPU would give. */
const pageFaults: Readonly<Record<number, number>> = { 6: 4, 7: 6, 8: 20, 12: 7, 13: 5, 14: 21 }
const ERROR_INVALID_INSTRUCTION = 10
const ERROR_EXCEPTION = 21

interface Library {
  emuStart(uc: bigint, begin: bigint, until: bigint, timeout: bigint, count: number): number
  map(uc: bigint, address: bigint, size: bigint, protection: number, at: bigint): number
  unmap(uc: bigint, address: bigint, size: bigint): number
  read(uc: bigint, register: number, value: Uint8Array): number
  write(uc: bigint, register: number, value: Uint8Array): number
  hook(
    uc: bigint,
    handle: Uint8Array,
    type: number,
    callback: unknown,
    data: bigint,
    begin: bigint,
    end: bigint,
    instruction: number,
  ): number
  open(architecture: number, mode: number, engine: [bigint | number | null]): number
  close(uc: bigint): number
  errorText(error: number): string
  stop(uc: bigint): number
  contextAlloc(uc: bigint, context: [bigint | number | null]): number
  contextFree(context: bigint): number
  contextRead(context: bigint, register: number, value: Uint8Array): number
  contextWrite(context: bigint, register: number, value: Uint8Array): number
  stopSymbol: unknown
  contextSaveSymbol: unknown
}

let loaded: (Library & { onMemory: unknown; onInterrupt: unknown }) | undefined

/** @throws HostError where libunicorn is not installed. */
export function unicorn() {
  if (loaded !== undefined) return loaded
  let library: ReturnType<typeof koffi.load>
  try {
    library = koffi.load('libunicorn.so.2')
  } catch (cause) {
    throw new HostError('libunicorn is not installed', { hint: 'apt-get install libunicorn2', cause })
  }
  const f = (declaration: string) => library.func(declaration) as never
  loaded = {
    open: f('int uc_open(int architecture, int mode, _Out_ uintptr_t *engine)'),
    close: f('int uc_close(uintptr_t uc)'),
    emuStart: f(
      'int uc_emu_start(uintptr_t uc, uint64_t begin, uint64_t until, uint64_t timeout, size_t count)',
    ),
    stop: f('int uc_emu_stop(uintptr_t uc)'),
    map: f(
      'int uc_mem_map_ptr(uintptr_t uc, uint64_t address, size_t size, uint32_t protection, uintptr_t at)',
    ),
    unmap: f('int uc_mem_unmap(uintptr_t uc, uint64_t address, size_t size)'),
    read: f('int uc_reg_read(uintptr_t uc, int register, void *value)'),
    write: f('int uc_reg_write(uintptr_t uc, int register, void *value)'),
    hook: f(
      'int uc_hook_add(uintptr_t uc, void *handle, int type, void *callback, uintptr_t data, uint64_t begin, uint64_t end, int instruction)',
    ),
    errorText: f('const char *uc_strerror(int error)'),
    contextAlloc: f('int uc_context_alloc(uintptr_t uc, _Out_ uintptr_t *context)'),
    contextFree: f('int uc_context_free(uintptr_t context)'),
    contextRead: f('int uc_context_reg_read(uintptr_t context, int register, void *value)'),
    contextWrite: f('int uc_context_reg_write(uintptr_t context, int register, void *value)'),
    stopSymbol: library.symbol('uc_emu_stop'),
    contextSaveSymbol: library.symbol('uc_context_save'),
    onMemory: koffi.pointer(
      koffi.proto(
        'bool imago_uc_memory(uintptr_t uc, int type, uint64_t address, int size, int64_t value, void *data)',
      ),
    ),
    onInterrupt: koffi.pointer(
      koffi.proto('void imago_uc_interrupt(uintptr_t uc, uint32_t vector, void *data)'),
    ),
  }
  return loaded
}

/** Offset of the word in the page of the block hook. */
const STOP_FLAG = 64

/**
 * The hook that runs before each translated block: `if (*data != 0) uc_emu_stop(uc)`, as machine code (uc in rdi, data
 * in rcx). Called from another thread, uc_emu_stop of 2.0 leaves a stale rip; from a block's hook it is exact.
 */
function blockHook(stop: bigint): Buffer {
  const code = Buffer.from('833900' + '7501' + 'c3' + '48b8' + '0000000000000000' + 'ffe0', 'hex') // cmp; jne; ret; mov; jmp
  code.writeBigUInt64LE(stop, 8)
  return code
}

export class UnicornCpu implements VirtualCpu {
  readonly engine = 'unicorn'
  readonly registers = new BigUint64Array(18)
  readonly stopHandle: StopHandle
  fsBase = 0n
  gsBase = 0n
  readonly #library = unicorn()
  readonly #uc: bigint
  readonly #memory: GuestMemory
  /** What unicorn has mapped: compared with the guest's mappings when they change. */
  readonly #mapped = new MappingTable()
  readonly #value = Buffer.alloc(16)
  /** A page with the hook of blocks, and at STOP_FLAG the word that it looks at. */
  readonly #stopPage = mapMemory(
    0n,
    PAGE_SIZE,
    PROT_READ | PROT_WRITE | PROT_EXEC,
    MAP_PRIVATE | MAP_ANONYMOUS,
  )
  readonly #callbacks: Array<ReturnType<typeof koffi.register>> = []
  /** A saved context that the hook of `syscall` overwrites: its rsp tells whether it did. */
  readonly #mark: bigint
  #faultAddress = 0n
  #vector: number | undefined

  constructor(memory: GuestMemory) {
    this.#memory = memory
    const { open, hook, contextAlloc, contextSaveSymbol, stopSymbol, onMemory, onInterrupt, stop } =
      this.#library
    const engine: [bigint | number | null] = [null]
    this.#check(open(ARCH_X86, MODE_64, engine), 'uc_open')
    this.#uc = BigInt(engine[0]!)
    const stopFlag = this.#stopPage + BigInt(STOP_FLAG)
    this.stopHandle = { engine: 'unicorn', flag: stopFlag, tid: hostCall(NR.gettid) }
    viewOf(this.#stopPage, PAGE_SIZE).set(blockHook(koffi.address(stopSymbol as never)))
    const handle = Buffer.alloc(8)
    const context: [bigint | number | null] = [null]
    this.#check(contextAlloc(this.#uc, context), 'uc_context_alloc')
    this.#mark = BigInt(context[0]!)
    for (const [symbol, data] of [
      [contextSaveSymbol, this.#mark],
      [stopSymbol, 0n],
    ] as const)
      this.#check(
        hook(this.#uc, handle, HOOK.instruction, symbol, data, ...ALL_ADDRESSES, INSTRUCTION_SYSCALL),
        'hook of syscall',
      )
    this.#check(
      hook(this.#uc, handle, HOOK.block, this.#stopPage, stopFlag, ...ALL_ADDRESSES, 0),
      'hook of blocks',
    )
    const memoryFault = koffi.register((_uc: unknown, _type: number, address: number | bigint) => {
      this.#faultAddress = BigInt.asUintN(64, BigInt(address))
      return false
    }, onMemory as never)
    const interrupt = koffi.register((_uc: unknown, vector: number) => {
      this.#vector = vector
      stop(this.#uc)
    }, onInterrupt as never)
    this.#callbacks.push(memoryFault, interrupt)
    this.#check(
      hook(this.#uc, handle, HOOK.invalidMemory, memoryFault, 0n, ...ALL_ADDRESSES, 0),
      'hook of memory',
    )
    this.#check(
      hook(this.#uc, handle, HOOK.interrupt, interrupt, 0n, ...ALL_ADDRESSES, 0),
      'hook of interrupts',
    )
    memory.onChange = (start, end) => this.#remap(start, end)
    this.#remap(0, memory.memorySize)
  }

  #check(error: number, what: string): void {
    if (error !== 0) throw new ImagoError(`unicorn: ${what}: ${this.#library.errorText(error)}`)
  }

  /** Brings unicorn's view of [start, end) in line with the mappings. */
  #remap(start: number, end: number): void {
    const { map, unmap } = this.#library
    for (const old of this.#mapped.within(start, end))
      this.#check(unmap(this.#uc, BigInt(old.start), BigInt(old.end - old.start)), 'unmap')
    const fresh = this.#memory.mappings.within(start, end).filter(mapping => mapping.protection !== 0)
    for (const mapping of fresh)
      this.#check(
        map(
          this.#uc,
          BigInt(mapping.start),
          BigInt(mapping.end - mapping.start),
          mapping.protection,
          this.#memory.base + BigInt(mapping.start),
        ),
        'map',
      )
    this.#mapped.replace(start, end, fresh)
  }

  #read(register: number): bigint {
    this.#value.fill(0)
    this.#library.read(this.#uc, register, this.#value)
    return this.#value.readBigUInt64LE(0)
  }

  #write(register: number, value: bigint): void {
    this.#value.fill(0)
    this.#value.writeBigUInt64LE(value, 0)
    this.#library.write(this.#uc, register, this.#value)
  }

  #pull(): void {
    for (const [i, name] of registerNames.entries()) this.registers[i] = this.#read(ID[name]!)
    this.fsBase = this.#read(FS_BASE)
    this.gsBase = this.#read(GS_BASE)
  }

  #push(): void {
    for (const [i, name] of registerNames.entries()) this.#write(ID[name]!, this.registers[i]!)
    this.#write(FS_BASE, this.fsBase)
    this.#write(GS_BASE, this.gsBase)
  }

  run(): CpuExit {
    this.#push()
    this.#vector = undefined
    viewOf(this.#stopPage, PAGE_SIZE)[STOP_FLAG] = 0
    this.#value.fill(0)
    this.#value.writeBigUInt64LE(UNREACHED, 0)
    this.#library.contextWrite(this.#mark, ID.rsp!, this.#value)
    const error = this.#library.emuStart(this.#uc, this.registers[R.rip]!, 0n, 0n, 0)
    this.#pull()
    const { registers } = this
    if (error !== 0) {
      const errorCode = pageFaults[error]
      if (errorCode !== undefined)
        return { kind: 'fault', vector: 14, errorCode, address: this.#faultAddress }
      if (error === ERROR_INVALID_INSTRUCTION) return { kind: 'fault', vector: 6, errorCode: 0, address: 0n }
      if (error === ERROR_EXCEPTION)
        return { kind: 'fault', vector: this.#vector ?? 13, errorCode: 0, address: 0n }
      throw new ImagoError(`unicorn: ${this.#library.errorText(error)}`, { address: registers[R.rip] })
    }
    if (this.#vector !== undefined) return { kind: 'fault', vector: this.#vector, errorCode: 0, address: 0n }
    if (!this.#afterSyscall()) return { kind: 'stopped' }
    // As the instruction itself leaves them.
    registers[R.rcx] = registers[R.rip]!
    registers[R.r11] = registers[R.rflags]!
    return { kind: 'syscall' }
  }

  #afterSyscall(): boolean {
    this.#value.fill(0)
    this.#library.contextRead(this.#mark, ID.rsp!, this.#value)
    return this.#value.readBigUInt64LE(0) !== UNREACHED
  }

  settle(): void {}

  readState(): CpuState {
    const xsave = initialXsave()
    const view = new DataView(xsave.buffer)
    view.setUint16(0, Number(this.#read(FPCW) & 0xffffn), true)
    const status = Number(this.#read(FPSW) & 0xffffn)
    view.setUint16(2, status, true)
    const tags = Number(this.#read(FPTAG) & 0xffffn)
    for (let i = 0; i < 8; i++) if (((tags >> (i * 2)) & 3) !== 3) xsave[4]! |= 1 << i
    view.setUint32(24, Number(this.#read(MXCSR) & 0xffffn), true)
    const top = (status >> 11) & 7
    for (let i = 0; i < 8; i++) {
      // Physical register → its place from the top of stack, as FXSAVE stores them.
      this.#read(FP0 + i)
      xsave.set(this.#value.subarray(0, 10), 32 + ((i - top) & 7) * 16)
    }
    for (let i = 0; i < 16; i++) {
      this.#read(XMM0 + i)
      xsave.set(this.#value, 160 + i * 16)
    }
    return { registers: this.registers.slice(), fsBase: this.fsBase, gsBase: this.gsBase, xsave, xcr0: 3n }
  }

  /** @throws LossError for a state with AVX registers in use. */
  writeState(state: CpuState): void {
    const { xsave } = state
    const view = new DataView(xsave.buffer, xsave.byteOffset, xsave.length)
    if ((view.getBigUint64(512, true) & 4n) !== 0n && xsave.subarray(576, 832).some(byte => byte !== 0))
      throw new LossError('the guest uses AVX registers, which unicorn does not have', {
        hint: 'restore it with --engine kvm',
      })
    this.registers.set(state.registers)
    this.fsBase = state.fsBase
    this.gsBase = state.gsBase
    this.#push()
    const status = view.getUint16(2, true)
    const top = (status >> 11) & 7
    this.#write(FPSW, BigInt(status))
    for (let i = 0; i < 8; i++) {
      this.#value.fill(0)
      this.#value.set(xsave.subarray(32 + ((i - top) & 7) * 16, 42 + ((i - top) & 7) * 16))
      this.#library.write(this.#uc, FP0 + i, this.#value)
    }
    // After the registers: writing one marks it as used.
    let tags = 0
    for (let i = 0; i < 8; i++) if ((xsave[4]! & (1 << i)) === 0) tags |= 3 << (i * 2)
    this.#write(FPTAG, BigInt(tags))
    this.#write(FPCW, BigInt(view.getUint16(0, true)))
    this.#write(MXCSR, BigInt(view.getUint32(24, true)))
    for (let i = 0; i < 16; i++) {
      this.#value.set(xsave.subarray(160 + i * 16, 176 + i * 16))
      this.#library.write(this.#uc, XMM0 + i, this.#value)
    }
  }

  release(): void {
    this.#memory.onChange = undefined
    this.#library.contextFree(this.#mark)
    hostCall(NR.munmap, this.#stopPage, PAGE_SIZE)
    this.#library.close(this.#uc)
    for (const callback of this.#callbacks) koffi.unregister(callback)
  }
}
