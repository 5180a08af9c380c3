import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compareRuns, type KnownRegisters, type Side } from '../../../src/engines/qemu/compare.js'
import { parseTraceLine, traceSide } from '../../../src/engines/qemu/gem5-trace.js'
import { parseMoment } from '../../../src/engines/qemu/until.js'
import { UnreadableError, UsageError } from '../../../src/lib/errors.js'

async function* linesOf(text: string) {
  yield* text.split('\n')
}

const trace = `     1000: system.cpu: T0 : 0x100781 @loop+4    : mov\trbx, rax
     1000: system.cpu: T0 : 0x100781 @loop+4. 0 :   MOV_R_R : mov   rbx, rbx, rax : IntAlu :  D=0x0000000000000007
     2000: system.cpu: T0 : 0x100784 @loop+7. 0 :   MOV_R_M : ld   rax, DS:[rcx] : MemRead :  D=0x0000000000000008 A=0x10afd0  flags=(IsInteger|IsMicroop|IsLoad)
     2500: system.cpu.dcache: something else
     3000: system.cpu: A0 T0 : 0x100788 @loop+11. 0 :   ADD_M_R : ldst   t1, DS:[rcx] : MemRead :  D=0x0000000000000001 A=0x10afd0
     3500: system.cpu: A0 T0 : 0x100788 @loop+11. 1 :   ADD_M_R : add   t1, t1, rax : IntAlu :  D=0x0000000000000009
     4000: system.cpu: T0 : 0x100781 @loop+4. 0 :   MOV_R_R : mov   rbx, rbx, rax : IntAlu :  D=0x0000000000000008
`

/** A side that stands at each of these register values in turn. */
function scripted(name: string, states: readonly Record<string, bigint>[]): Side {
  let at = 0
  return {
    name,
    registers: async () => (states[at] === undefined ? undefined : new Map(Object.entries(states[at]!))),
    step: async () => {
      at++
    },
  }
}

describe('comparing two runs', () => {
  it('finds the instruction after which a register differs', async () => {
    const a = scripted('a', [
      { rip: 1n, rax: 0n },
      { rip: 2n, rax: 5n },
      { rip: 3n, rax: 6n },
    ])
    const b = scripted('b', [
      { rip: 1n, rax: 0n },
      { rip: 2n, rax: 5n },
      { rip: 3n, rax: 7n },
    ])
    expect(await compareRuns(a, b, 10)).toEqual({
      steps: 2,
      rip: 2n,
      differences: [{ register: 'rax', first: 6n, second: 7n }],
      ended: undefined,
    })
  })

  it('says which side has no more instructions', async () => {
    const states = [{ rip: 1n }, { rip: 2n }]
    const result = await compareRuns(scripted('a', states), scripted('b', [...states, { rip: 3n }]), 10)
    expect(result).toMatchObject({ steps: 2, ended: 'a', differences: [] })
  })

  it('leaves out the resume flag, which monitors keep differently, and nothing else of RFLAGS', async () => {
    const run = (flags: bigint) =>
      compareRuns(scripted('a', [{ eflags: 0x202n }]), scripted('b', [{ eflags: flags }]), 0)
    expect((await run(0x10202n)).differences).toEqual([])
    expect((await run(0x203n)).differences).toHaveLength(1)
  })
})

describe('a gem5 trace', () => {
  it('is one side: instructions with their micro-operations, and registers once they were written', async () => {
    const side = traceSide('trace', linesOf(trace))
    const seen: KnownRegisters[] = []
    for (let known = await side.registers(); known !== undefined; known = await side.registers()) {
      seen.push(known)
      await side.step()
    }
    expect(seen.map(known => [known.get('rip'), known.get('rax'), known.get('rbx')])).toEqual([
      [0x100781n, undefined, undefined],
      [0x100784n, undefined, 7n],
      [0x100788n, 8n, 7n],
      [0x100781n, 8n, 7n],
    ])
  })

  it('differs from a machine that wrote something else', async () => {
    const machine = scripted('qemu', [
      { rip: 0x100781n, rax: 7n, rbx: 0n },
      { rip: 0x100784n, rax: 7n, rbx: 7n },
      { rip: 0x100788n, rax: 9n, rbx: 7n },
    ])
    expect(await compareRuns(machine, traceSide('trace', linesOf(trace)), 10)).toMatchObject({
      steps: 2,
      rip: 0x100784n,
      differences: [{ register: 'rax', first: 9n, second: 8n }],
    })
  })

  it('knows an address with and without symbol, the address space, and a symbol alone', () => {
    const places = [
      '   5000: system.cpu: T0 : 0x401a50    : push rbp',
      '   5000: system.cpu0: A0 T0 : 0x401a50 @std::sort(int*)+16. 1 :   PUSH_R : subi rsp, rsp, 0x8 : IntAlu : D=0x7ff0',
      '   5000: board.processor.cores.core A0 T0 : @start+16.1  :   PUSH_R : subi rsp, rsp, 0x8 : IntAlu : D=0x7ff0',
    ].map(parseTraceLine)
    expect(places).toMatchObject([
      { rip: 0x401a50n, micro: undefined },
      { rip: 0x401a50n, micro: 1 },
      { rip: undefined, place: '@start+16', micro: 1 },
    ])
  })

  it('does not take the flags that an operation set for its result', () => {
    const line = (operation: string) =>
      parseTraceLine(
        `  9000: system.cpu: T0 : 0x4235d4 @f+3. 0 :   X : ${operation} : IntAlu :  D=0x0000000000000044`,
      )?.written
    expect(line('and   rax, rax, rdx')).toBeUndefined()
    expect(line('addi   rax, rax, 0x1')).toBeUndefined()
    expect(line('limm   rdi, 0x44')).toEqual({ register: 'rdi', value: 0x44n })
    expect(line('lea   rsi, DS:[t7 + 0x19]')).toEqual({ register: 'rsi', value: 0x44n })
    expect(line('mov   eax, eax, ecx')).toBeUndefined()
  })

  it('with symbols only is refused with the word that helps', async () => {
    const old = '  31000: system.cpu A0 T0 : @main+4    : mov rdi, 0x1'
    await expect(traceSide('x', linesOf(old)).registers()).rejects.toThrow(/symbols in the place/)
  })

  it('is refused when no line is one of a trace', async () => {
    await expect(traceSide('x', linesOf('gem5 Simulator System\nwarn: 3')).registers()).rejects.toThrow(
      UnreadableError,
    )
  })

  it('takes any text for a line without crashing (fuzz)', () => {
    const line = trace.split('\n')[1]!
    fc.assert(
      fc.property(
        fc.nat(line.length),
        fc.string({ maxLength: 20 }),
        fc.nat(line.length),
        (from, put, cut) => {
          const entry = parseTraceLine(line.slice(0, from) + put + line.slice(from + cut))
          expect(entry === undefined || typeof entry.place === 'string').toBe(true)
        },
      ),
      { numRuns: 10_000 },
    )
  })
})

describe('the moment of a capture', () => {
  it('is a text, a time or a number of instructions', () => {
    expect(parseMoment('serial:login: ')).toEqual({ kind: 'serial', text: 'login: ' })
    expect(parseMoment('time:1.5s')).toEqual({ kind: 'time', milliseconds: 1500 })
    expect(parseMoment('time:5')).toEqual({ kind: 'time', milliseconds: 5000 })
    expect(parseMoment('instructions:1_000')).toEqual({ kind: 'instructions', count: 1000 })
  })

  it.each(['', 'serial', 'serial:', 'time:', 'time:-1s', 'instructions:x', 'later:1'])('is not %j', text => {
    expect(() => parseMoment(text)).toThrow(UsageError)
  })
})
