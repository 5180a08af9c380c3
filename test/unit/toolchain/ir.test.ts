import { describe, expect, it } from 'vitest'
import { parseArgument } from '../../../src/toolchain/arguments.js'
import { Flow } from '../../../src/toolchain/flow.js'
import {
  declare,
  functionsOf,
  Locations,
  leadingType,
  parseCall,
  parseModule,
  printCall,
  printModule,
  splitList,
} from '../../../src/toolchain/ir.js'

const text = `target datalayout = "e"

@g = global i32 7

define i32 @f(i32 %n, ptr %p) #0 !dbg !7 {
entry:
  %c = icmp slt i32 %n, 2
  switch i32 %n, label %other [
    i32 0, label %a
    i32 1, label %b
  ]

a:                                                ; preds = %entry
  br label %b

b:                                                ; preds = %a, %entry
  %v = phi i32 [ 1, %a ], [ %n, %entry ]
  %r = call { i64, i64 } @pair(ptr noundef nonnull %p, i32 signext 3), !dbg !9
  br i1 %c, label %b, label %other

other:
  ret i32 0
}

declare { i64, i64 } @pair(ptr, i32)

!7 = distinct !DISubprogram(name: "f", scope: !8, file: !8, line: 3)
!8 = !DIFile(filename: "dir/a.c", directory: "/d")
!9 = !DILocation(line: 12, column: 3, scope: !10)
!10 = distinct !DILexicalBlock(scope: !7, line: 11)
`

describe('textual IR', () => {
  it('declares nothing twice: neither what is declared or defined, nor a global', () => {
    const module = parseModule(`${text}\ndeclare ptr @llvm.ptrmask.p0.i64(ptr, i64) #3\n`)
    const before = module.items.length
    declare(
      module,
      'declare ptr @llvm.ptrmask.p0.i64(ptr, i64)',
      'declare i32 @f(i32, ptr)',
      '@g = external global i32',
    )
    expect(module.items).toHaveLength(before)
    declare(module, 'declare void @llvm.ptrmask(ptr)')
    expect(module.items.at(-1)).toBe('declare void @llvm.ptrmask(ptr)')
  })

  it('keeps every line of a module that is parsed and printed', () => {
    const words = (each: string) => each.replace(/;.*$/gm, '').replace(/\s+/g, ' ').trim()
    expect(words(printModule(parseModule(text)))).toBe(words(text))
  })

  it('joins a switch into one instruction with all its targets', () => {
    const [fn] = functionsOf(parseModule(text))
    expect(new Flow(fn!).successors.get('entry')).toEqual(['other', 'a', 'b'])
  })

  it('finds the edge that closes a loop, and no other', () => {
    const flow = new Flow(functionsOf(parseModule(text))[0]!)
    expect([...flow.latches].map(([from, to]) => [from, [...to]])).toEqual([['b', ['b']]])
    expect(flow.frequencies(() => false).get('b')).toBe(10)
    expect(flow.frequencies(() => false).get('a')).toBe(1)
  })

  it('says file and line of an instruction in a block of a function', () => {
    const module = parseModule(text)
    const call = functionsOf(module)[0]!.blocks[2]!.instructions[1]!
    expect(new Locations(module).of(call)).toBe('dir/a.c:12')
  })

  it.each([
    ['  %x = tail call fastcc noundef i32 @"odd name"(i32 1)', '@"odd name"', ['i32 1']],
    [
      '  call void %f(ptr byval({ i64, [3 x i8] }) align 8 %a, ptr null)',
      '%f',
      ['ptr byval({ i64, [3 x i8] }) align 8 %a', 'ptr null'],
    ],
    [
      '  %x = call i32 (ptr, ...) @printf(ptr @s, double 1.0) #3, !dbg !1',
      '@printf',
      ['ptr @s', 'double 1.0'],
    ],
    ['  %x = call range(i32 0, 2) i32 @f(), !range !{i32 0}', '@f', []],
    [
      '  %x = call i32 @f(ptr getelementptr (i8, ptr @g, i64 4))',
      '@f',
      ['ptr getelementptr (i8, ptr @g, i64 4)'],
    ],
  ])('takes a call apart and puts it together: %s', (line, callee, args) => {
    const call = parseCall(line)!
    expect(call.callee).toBe(callee)
    expect(call.args).toEqual(args)
    expect(printCall(call)).toBe(line)
  })

  it('does not take inline assembler for a call of a function', () => {
    expect(parseCall('  call void asm sideeffect "nop (x)", "~{memory}"()')?.assembler).toBe(true)
  })

  it('reads types and attributes of arguments', () => {
    expect(leadingType('<2 x { i64, ptr }> %x')).toBe('<2 x { i64, ptr }>')
    expect(parseArgument('ptr noundef dereferenceable(8) align 16 %p')).toEqual({
      type: 'ptr',
      attributes: 'noundef dereferenceable(8) align 16 ',
      value: '%p',
    })
    expect(splitList('i32 1, ptr @"a,b", [2 x i8] c"x,"')).toHaveLength(3)
  })
})
