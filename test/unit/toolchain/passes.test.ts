import { describe, expect, it } from 'vitest'
import { lowerComputedGotos } from '../../../src/toolchain/computed-gotos.js'
import { Locations, printModule } from '../../../src/toolchain/ir.js'
import { dropStructReturn, neutralize } from '../../../src/toolchain/prepare.js'
import { renameLibraryCalls } from '../../../src/toolchain/renames.js'
import { dropTailMarks } from '../../../src/toolchain/tail-marks.js'
import { lowerThreadLocals } from '../../../src/toolchain/thread-locals.js'
import { refuseUnsupported } from '../../../src/toolchain/unsupported.js'
import { lowerVariadics } from '../../../src/toolchain/variadics.js'
import { module } from './module.js'

describe('computed gotos', () => {
  it('become a switch over the numbers of labels, with every edge kept', () => {
    const program = module(`
@table = internal constant [1 x ptr] [ptr blockaddress(@f, %two)]
define void @f(ptr %p) {
one:
  indirectbr ptr %p, [label %two, label %three, label %two]
two:
  ret void
three:
  ret void
}`)
    lowerComputedGotos(program)
    const text = printModule(program)
    expect(text).toContain('[ptr inttoptr (i64 1 to ptr)]')
    expect(text).toContain('[ i64 1, label %two i64 2, label %three i64 3, label %two ]')
    expect(text).not.toMatch(/blockaddress|indirectbr/)
  })
})

describe('variadic functions', () => {
  it('passes an array instead, and reads it as arguments in memory', () => {
    const program = module(`
define i32 @sum(i32 %n, ...) {
b:
  %l = alloca [24 x i8]
  call void @llvm.va_start.p0(ptr nonnull %l)
  call void @llvm.va_end.p0(ptr %l)
  ret i32 0
}
define i32 @main() {
b:
  %r = tail call i32 (i32, ...) @sum(i32 2, i64 noundef 5, double 1.0)
  %s = call i32 (ptr, ...) @printf(ptr null, i32 1)
  ret i32 %r
}`)
    expect([...lowerVariadics(program)]).toEqual(['sum'])
    const text = printModule(program)
    expect(text).toContain('define i32 @sum(i32 %n, ptr %imago.variadic)')
    expect(text).toContain('store ptr %imago.variadic')
    expect(text).toContain('store i64 5, ptr %imago.va0.0')
    expect(text).toContain('store double 1.0, ptr %imago.va0.1')
    expect(text).toContain('@sum(i32 2, ptr %imago.va0)')
    expect(text).toContain('@printf(ptr null, i32 1)')
    expect(text).not.toContain('va_start')
  })
})

describe('marks of tail calls', () => {
  it('go wherever there is a local, which they say is not looked at', () => {
    const program = module(`
define i32 @sum(i32 %n, ...) {
b:
  ret i32 0
}
define void @lowered() {
b:
  %r = tail call i32 (i32, ...) @sum(i32 2, i64 noundef 5)
  ret void
}
define void @copies(ptr byval({ i64, i64, i64 }) align 8 %s) {
b:
  tail call fastcc void @other(ptr %s)
  ret void
}
define i32 @without(ptr %p) {
b:
  %"a b" = tail call i32 @other(ptr %p)
  ret i32 %"a b"
}`)
    lowerVariadics(program)
    dropTailMarks(program)
    const calls = printModule(program)
      .split('\n')
      .filter(line => line.includes('call '))
    expect(calls).toEqual([
      '  %r = call i32 (i32, ptr) @sum(i32 2, ptr %imago.va0)',
      '  call fastcc void @other(ptr %s)',
      '  %"a b" = tail call i32 @other(ptr %p)',
    ])
  })
})

describe('what is made neutral', () => {
  it('drops what is of one ISA', () => {
    const text = neutralize(
      'target triple = "x"\nattributes #0 = { nounwind memory(none) "target-cpu"="x86-64" }\n@s = private unnamed_addr constant [2 x i8] c"a\\00"\n',
    )
    expect(text).not.toMatch(/triple|memory|target-cpu|private/)
    expect(dropStructReturn('call void @f(ptr sret({ i64, [2 x i8] }) align 8 %x)')).toBe(
      'call void @f(ptr align 8 %x)',
    )
  })

  it('calls the runtime where libc would not do, but for functions of the program’s own', () => {
    const program = module(`
declare i32 @open(ptr, i32, ...)
declare i32 @thrd_create(ptr, ptr, ptr)
define void @signal() {
b:
  %r = call i32 @thrd_create(ptr null, ptr null, ptr null)
  call void @signal()
  ret void
}`)
    renameLibraryCalls(program)
    const text = printModule(program)
    expect(text).toContain('call i32 @__imago_thrd_create(')
    expect(text).toContain('declare i32 @__imago_open(ptr, i32, ...)')
    expect(text).toContain('call void @signal()')
  })
})

describe('refusals', () => {
  const refuse = (instruction: string, reaches = true) => {
    const program = module(
      `define void @f(ptr %p) !dbg !1 {\nb:\n${instruction}\n  ret void\n}\n!1 = distinct !DISubprogram(name: "f", file: !2, line: 4)\n!2 = !DIFile(filename: "a.c", directory: "/")\n!3 = !DILocation(line: 6, scope: !1)\n`,
    )
    refuseUnsupported(program, new Set(reaches ? ['f'] : []), new Locations(program))
  }
  it.each([
    ['  %r = call i32 @setjmp(ptr %p), !dbg !3', 'a.c:6: f: setjmp across a migration point'],
    ['  call void asm sideeffect "nop", "~{memory}"(), !dbg !3', 'a.c:6: f: inline assembler'],
    ['  %r = musttail call i32 @f(ptr %p), !dbg !3', 'a.c:6: f: a call that must be a tail call'],
    ['  %x = fadd x86_fp80 %a, %b', 'a.c:4: f: long double'],
    ['  %r = call i64 (i64, ...) @syscall(i64 39), !dbg !3', 'a.c:6: f: a system call by its number'],
  ])('names function and line of %s', (instruction, message) => {
    expect(() => refuse(instruction)).toThrow(message)
  })
  it('allows setjmp where no migration point is reached', () => {
    expect(() => refuse('  %r = call i32 @setjmp(ptr %p)', false)).not.toThrow()
  })
  it('allows a compiler barrier', () => {
    expect(() => refuse('  call void asm sideeffect "", "~{memory}"()')).not.toThrow()
  })
})

describe('thread-local variables', () => {
  const lowered = (body: string) => {
    const program = module(body)
    lowerThreadLocals(program)
    return printModule(program)
  }

  it('become the pattern of a block that each thread has, found from one word of the thread', () => {
    const text = lowered(`
@plain = global i64 3
@steps = internal thread_local(localexec) unnamed_addr global i64 7, align 64
@limit = dso_local thread_local constant i32 9, align 4
@other = external thread_local global i64
define i64 @work() {
b:
  %s = call align 8 ptr @llvm.threadlocal.address.p0(ptr align 64 @steps), !dbg !3
  %v = load i64, ptr %s, align 64
  %o = call ptr @llvm.threadlocal.address.p0(ptr @other)
  ret i64 %v
}
`)
    const lines = text.split('\n').filter(line => /^@|^ {2}%/.test(line))
    const section = 'section ".data.imago.storage"'
    expect(lines).toEqual([
      '@plain = global i64 3',
      `@__imago_storage_start = global [0 x i8] zeroinitializer, ${section}, align 1`,
      `@steps = internal global i64 7, align 64, ${section}`,
      `@limit = dso_local global i32 9, align 4, ${section}`,
      '@other = external thread_local global i64',
      '  %s.imago.base = load i64, ptr @__imago_storage, !invariant.load !999998',
      '  %s.imago.sum = add i64 %s.imago.base, ptrtoint (ptr @steps to i64)',
      '  %s = inttoptr i64 %s.imago.sum to ptr',
      '  %v = load i64, ptr %s, align 64',
      '  %o = call ptr @llvm.threadlocal.address.p0(ptr @other)',
      `@__imago_storage_end = global [0 x i8] zeroinitializer, ${section}, align 1`,
      '@__imago_storage = external dso_local thread_local(localexec) global i64',
    ])
  })

  it('leave an empty pattern where the program has none', () => {
    expect(lowered('@x = global i64 1\n').match(/^@__imago_storage_(start|end)/gm)).toHaveLength(2)
  })
})
