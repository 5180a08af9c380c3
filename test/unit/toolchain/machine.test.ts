import { describe, expect, it } from 'vitest'
import { linkerScript, planLayout, readLinkMap, requireSameAddresses } from '../../../src/toolchain/layout.js'
import { lastAtOrBefore, returnAddressesOf } from '../../../src/toolchain/machine-frames.js'
import { parseInstruction, wholeRegister } from '../../../src/toolchain/mir.js'
import { parseCompilerOptions } from '../../../src/toolchain/options.js'
import { requireNoLeak, verifyDump } from '../../../src/toolchain/verify.js'

const dump = (pass: string, body: string) =>
  `# *** IR Dump Before Something (${pass}) ***:\n# Machine code for function f: NoPHIs\n\n${body}\n# End machine code for function f.\n`
const call = 'CALL64pcrel32 @g, <regmask $rbx $rbp>, implicit $rsp, implicit-def $rsp'

describe('the verifier', () => {
  it('sees a virtual register that lives across a site, through another block', () => {
    const verdict = verifyDump(
      dump(
        'greedy',
        `0B	bb.0.entry:
	  successors: %bb.1(0x80000000)
16B	  %5:gr64 = MOV64ri 7
32B	  ${call}
48B	  STACKMAP 3, 0, implicit-def dead early-clobber $r11

64B	bb.1:
	; predecessors: %bb.0
80B	  $rax = COPY %5:gr64
96B	  RET64 implicit $rax`,
      ),
    )
    expect(verdict.leaks).toEqual([{ pass: 'greedy', function: 'f', site: 3, values: ['%5'] }])
    expect(() =>
      requireNoLeak(verdict, 'x86-64', [
        { id: 1, function: 'f', source: 'a.c:1' },
        { id: 2, function: 'f', source: 'a.c:2' },
        { id: 3, function: 'f', source: 'a.c:3' },
      ]),
    ).toThrow('a.c:3: f: %5')
  })

  it('allows the result of the call, and values made after it', () => {
    const { leaks } = verifyDump(
      dump(
        'greedy',
        `bb.0.entry:
  ${call}, implicit-def $rax
  STACKMAP 1, 0
  %5:gr64 = COPY killed $rax
  undef %6.sub_32bit:gr64 = nofpexcept CVTTSD2SIrr %5:gr64, implicit $mxcsr
  RET64 implicit $rax`,
      ).replace('RET64 implicit $rax', '$rax = COPY %6:gr64\n  RET64 implicit $rax'),
    )
    expect(leaks).toEqual([])
  })

  it('sees a callee-saved register, a spill slot and a stack argument after allocation', () => {
    const { leaks } = verifyDump(
      dump(
        'prologepilog',
        `bb.0.entry:
  MOV64mr %stack.0, 1, $noreg, 0, $noreg, killed $rdi :: (store (s64) into %stack.0)
  ${call}
  STACKMAP 1, 0
  $rcx = MOV64rm %stack.0, 1, $noreg, 0, $noreg :: (load (s64) from %stack.0)
  $rdx = MOV64rm %fixed-stack.1, 1, $noreg, 0, $noreg :: (load (s64) from %fixed-stack.1)
  $eax = COPY $ebx
  RET64 implicit $rax`,
      ),
    )
    expect(leaks[0]?.values).toEqual(['$rbx', '%fixed-stack.1', '%stack.0'])
  })

  it('does not accept a dump in which a check is missing', () => {
    const verdict = verifyDump(dump('greedy', `bb.0.entry:\n  ${call}\n  STACKMAP 1, 0\n  RET64`))
    expect(() => requireNoLeak(verdict, 'x86-64', [{ id: 1, function: 'f', source: undefined }])).toThrow(
      'not checked as a whole',
    )
  })

  it.each([
    ['eax', '$rax'],
    ['r9d', '$r9'],
    ['bl', '$rbx'],
    ['w20', '$x20'],
    ['d8', '$v8'],
    ['lr', '$x30'],
    ['rsp', undefined],
    ['fs', undefined],
  ])('takes $%s for part of %s', (name, whole) => expect(wholeRegister(name)).toBe(whole))

  it('counts a partial definition as a use of the rest', () => {
    expect(parseInstruction('%5.sub_32bit:gr64 = MOV32ri 1').uses).toEqual(['%5'])
    expect(parseInstruction('undef %5.sub_32bit:gr64 = MOV32ri 1').uses).toEqual([])
  })
})

describe('the layout', () => {
  const line = (size: number, align: number, what: string) =>
    `  401000   401000 ${size.toString(16).padStart(8)} ${String(align).padStart(5)} ${what}`
  const map = (text: number, data: number) =>
    [
      line(0x100, 16, '.text'),
      line(text, 16, '        x/program.o:(.text.main)'),
      line(text, 1, '                main'),
      line(0x20, 4, '        /m/libc.a(memmove.o):(.text)'),
      line(data, 8, '.data'),
      line(data, 8, '        x/program.o:(.data.g)'),
    ].join('\n')

  const plan = planLayout(
    {
      'x86-64': readLinkMap(map(0x31, 8)),
      aarch64: readLinkMap(map(0x40, 64).replace('memmove.o):(.text)', 'memmove.o):(.text.memmove)')),
    },
    0x100,
  )

  it('gives every section one address and room for the larger of the two', () => {
    const main = plan.sections.find(each => each.section === '.text.main')!
    expect(main.size).toBe(0x40)
    expect(main.sizes).toEqual({ 'x86-64': 0x31, aarch64: 0x40 })
    for (const [i, each] of plan.sections.entries())
      for (const other of plan.sections.slice(i + 1))
        expect(other.address >= each.address + each.size || each.address >= other.address + other.size).toBe(
          true,
        )
  })

  it('knows a file of one function by whatever name its section has', () => {
    const memmove = plan.sections.filter(each => each.file === 'libc.a:memmove.o')
    expect(memmove).toHaveLength(1)
    expect(linkerScript(plan, 'aarch64')).toContain('*libc.a:memmove.o(.text.memmove)')
    expect(linkerScript(plan, 'x86-64')).toContain('*libc.a:memmove.o(.text)')
  })

  it('refuses binaries in which a symbol has two addresses', () => {
    const symbols = (address: bigint) =>
      new Map([
        ['counter', [address]],
        ['_init', [address]],
      ])
    expect(requireSameAddresses({ 'x86-64': symbols(8n), aarch64: symbols(8n) }, 'p')).toBe(1)
    expect(() => requireSameAddresses({ 'x86-64': symbols(8n), aarch64: symbols(16n) }, 'p')).toThrow(
      'counter: 0x8 and 0x10',
    )
  })
})

describe('return addresses', () => {
  it('are those of the last call at or before a stackmap', () => {
    const returns = returnAddressesOf(
      '0000000000401000 <f>:\n  401000:      \tpushq\t%rbp\n  401004:      \tcallq\t0x402000 <g>\n  401009:      \tmovq\t%rax, %rbx\n  40100c:      \tcallq\t*%rax\n  40100e:      \tretq\n',
    )
    expect(returns).toEqual([0x401009n, 0x40100en])
    expect(lastAtOrBefore(returns, 0x40100cn)).toBe(0x401009n)
    expect(lastAtOrBefore(returns, 0x401000n)).toBeUndefined()
  })
})

describe('options of a C compiler', () => {
  it('takes those a Makefile uses', () => {
    const options = parseCompilerOptions(
      '-O3 -g -Wall -DN=3 -I include -std=c11 -c a.c -o out/a.o -MMD -MF a.d'.split(' '),
    )
    expect(options.mode).toBe('object')
    expect(options.output).toBe('out/a.o')
    expect(options.frontEnd).toEqual([
      '-O3',
      '-Wall',
      '-DN=3',
      '-I',
      'include',
      '-std=c11',
      '-MMD',
      '-MF',
      'a.d',
    ])
  })
  it('links nothing when asked for dependencies or errors only', () => {
    for (const word of ['-M', '-MM', '-fsyntax-only'])
      expect(parseCompilerOptions([word, 'a.c'])).toMatchObject({ mode: 'preprocess', frontEnd: [word] })
  })
  it('reads ours', () => {
    const options = parseCompilerOptions('--migrate-at loops,solve --map a.c b.o -lm -o p'.split(' '))
    expect(options).toMatchObject({
      migrateAt: ['loops', 'solve'],
      map: true,
      objects: ['b.o'],
      libraries: [],
    })
  })
  it.each([
    '-march=native',
    '-shared',
    '-ffast-math',
    '-S',
    '-fsanitize=address',
    '--coverage',
    'fast.S',
    'main.cpp',
  ])('refuses %s with the reason', word =>
    expect(() => parseCompilerOptions([word, 'a.c'])).toThrow(`does not take ${word}: `))
})
