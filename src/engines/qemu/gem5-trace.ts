/**
 * The text that gem5 prints under `--debug-flags=ExecAll` (with or without ExecMicro), read as one side of a comparison:
 *
 *   5000: system.cpu: T0 : 0x100781 @main+4    : hlt
 *   6000: system.cpu: T0 : 0x100782 @main+5. 0 :   ADD_R_I : addi rax, rax, 0x1 : IntAlu : D=0x0000000000000002
 *
 * tick, CPU, thread, address (and symbol, and `. n` for a micro-operation), disassembly, class, and after `D=` what it
 * wrote: into the first operand of the disassembly. So a trace knows where each instruction lies, and the registers that
 * it has seen written. Source: gem5 src/cpu/exetrace.cc.
 */
import { UnreadableError } from '../../lib/errors.js'
import { limits } from '../../lib/limits.js'
import type { KnownRegisters, Side } from './compare.js'
import { gdbRegisters } from './gdb.js'

export interface TraceEntry {
  readonly rip: bigint
  /** Number of the micro-operation; undefined on a line for a whole instruction. */
  readonly micro: number | undefined
  /** A general register that was written, and with what. */
  readonly written: { readonly register: string; readonly value: bigint } | undefined
}

const LINE =
  /^\s*\d+: (?:[\w.]+): (?:A\d+ )?(?:T\d+ : )?0x([0-9a-f]+)(?: @[^\s:]+?)?(?:\. ?(\d+))?\s*:\s*(.*)$/

const generalRegisters = new Set<string>(gdbRegisters.slice(0, 16))

/** One line, or undefined when it is of another kind (other debug flags print between). */
export function parseTraceLine(line: string): TraceEntry | undefined {
  const match = LINE.exec(line)
  if (match === null) return undefined
  const [, address, micro, rest] = match
  return {
    rip: BigInt(`0x${address}`),
    micro: micro === undefined ? undefined : Number(micro),
    written: writtenRegister(rest!),
  }
}

/** `ADD_R_I : addi   rax, rax, 0x1 : IntAlu :  D=0x…`: a write of less than the whole register is left out. */
function writtenRegister(text: string): TraceEntry['written'] {
  const data = /\bD=0x([0-9a-f]+)/.exec(text)
  const operand = /(?:^|:)\s*[\w.]+\s+([a-z]\w*)\s*,/.exec(text)
  if (data === null || operand === null || !generalRegisters.has(operand[1]!)) return undefined
  return { register: operand[1]!, value: BigInt(`0x${data[1]}`) }
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
  }

  return {
    name,
    async registers() {
      await begin()
      return next === undefined ? undefined : (new Map([...known, ['rip', next.rip]]) as KnownRegisters)
    },
    /** Moves over all lines of one instruction: its micro-operations, or its one line. */
    async step() {
      await begin()
      for (let current = next; current !== undefined; current = next) {
        if (current.written !== undefined) known.set(current.written.register, current.written.value)
        next = await advance()
        const goesOn =
          next !== undefined &&
          next.rip === current.rip &&
          (next.micro ?? 0) > (current.micro ?? -1) &&
          next.micro !== undefined
        if (!goesOn) return
      }
    },
  }
}
