/**
 * The text that gem5 prints under `--debug-flags=ExecAll` (with or without ExecMicro), read as one side of a comparison:
 *
 *   5000: system.cpu: T0 : 0x100781 @main+4    : hlt
 *   6000: system.cpu: T0 : 0x100782 @main+5. 0 :   MOV_R_I : limm   rax, 0x1 : IntAlu :  D=0x0000000000000001  flags=(…)
 *   6000: system.cpu A0 T0 : @main+5.0  :   MOV_R_I : limm   rax, 0x1 : IntAlu :  D=…      (until 2020; no address)
 *
 * tick, CPU, address space, thread, address and symbol, `. n` for a micro-operation, disassembly, class, and after `D=`
 * one value that it wrote. Where that goes into the first operand of the disassembly, the trace knows a register. Of
 * a micro-operation that sets flags it is often the flags (gem5 pull request 2830), so only those that set none count.
 * Source: gem5 src/cpu/exetrace.cc.
 */
import { UnreadableError } from '../../lib/errors.js'
import { limits } from '../../lib/limits.js'
import type { KnownRegisters, Side } from './compare.js'
import { gdbRegisters } from './gdb.js'

export interface TraceEntry {
  /** undefined where an older gem5 prints a symbol in its place. */
  readonly rip: bigint | undefined
  /** Address and symbol as printed: what tells the lines of one instruction from the next. */
  readonly place: string
  /** Number of the micro-operation; undefined on a line for a whole instruction. */
  readonly micro: number | undefined
  /** A general register that was written, and with what. */
  readonly written: { readonly register: string; readonly value: bigint } | undefined
}

const LINE =
  /^\s*\d+: [\w.]+:? (?:A\d+ )?T\d+ : (?=0x|@)((?:0x([0-9a-f]+))? ?(?:@\S+?)?)(?:\. ?(\d+))?\s*: (.*)$/

/** Micro-operations that write their first operand and no flags. */
const plainWrites = new Set(['limm', 'mov', 'lea', 'ld', 'rdip', 'zexti', 'sexti'])

const generalRegisters = new Set<string>(gdbRegisters.slice(0, 16))

/** One line, or undefined when it is of another kind (other debug flags print between). */
export function parseTraceLine(line: string): TraceEntry | undefined {
  const match = LINE.exec(line)
  if (match === null) return undefined
  const [, place, address, micro, rest] = match
  return {
    rip: address === undefined ? undefined : BigInt(`0x${address}`),
    place: place!,
    micro: micro === undefined ? undefined : Number(micro),
    written: writtenRegister(rest!),
  }
}

/** `MOV_R_I : limm   rax, 0x1 : IntAlu :  D=0x…`: a write of less than the whole register names another one (eax, al). */
function writtenRegister(text: string): TraceEntry['written'] {
  const match = /^\s*\w+ : (\w+)\s+([a-z]\w*)\s*,.* : \w+ :\s+D=0x([0-9a-f]+)/.exec(text)
  if (match === null) return undefined
  const [, operation, register, value] = match
  if (!plainWrites.has(operation!) || !generalRegisters.has(register!)) return undefined
  return { register: register!, value: BigInt(`0x${value}`) }
}

/** A trace as a side. @throws UnreadableError when a line is endless or none is a trace's. */
export function traceSide(name: string, lines: AsyncIterable<string>): Side {
  const entries = lines[Symbol.asyncIterator]()
  const known = new Map<string, bigint>()
  let next: TraceEntry | undefined
  let started = false

  const advance = async (): Promise<TraceEntry | undefined> => {
    for (;;) {
      const { value, done } = await entries.next()
      if (done) return undefined
      if (value.length > limits.lineBytes) throw new UnreadableError('a line without end', { file: name })
      const entry = parseTraceLine(value)
      if (entry !== undefined) return entry
    }
  }
  const begin = async () => {
    if (started) return
    started = true
    next = await advance()
    if (next === undefined)
      throw new UnreadableError('no line of a gem5 trace', {
        file: name,
        expected: 'the output of gem5 with --debug-flags=Exec',
      })
    if (next.rip === undefined)
      throw new UnreadableError('the trace has symbols in the place of addresses', {
        file: name,
        found: next.place,
        hint: 'run gem5 with --debug-flags=Exec,-ExecSymbol',
      })
  }

  return {
    name,
    async registers() {
      await begin()
      if (next === undefined) return undefined
      return new Map(next.rip === undefined ? known : [...known, ['rip', next.rip]]) as KnownRegisters
    },
    /** Moves over all lines of one instruction: its micro-operations, or its one line. */
    async step() {
      await begin()
      for (let current = next; current !== undefined; current = next) {
        if (current.written !== undefined) known.set(current.written.register, current.written.value)
        next = await advance()
        const goesOn =
          next !== undefined &&
          next.place === current.place &&
          (next.micro ?? 0) > (current.micro ?? -1) &&
          next.micro !== undefined
        if (!goesOn) return
      }
    },
  }
}
