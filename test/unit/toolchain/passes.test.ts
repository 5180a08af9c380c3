import { describe, expect, it } from 'vitest'
import { CallGraph, PARK, siteTest } from '../../../src/toolchain/call-graph.js'
import { lowerComputedGotos } from '../../../src/toolchain/computed-gotos.js'
import { functionsOf, Locations, parseModule, printModule } from '../../../src/toolchain/ir.js'
import { everyCycle, insertPolls, parsePolicy } from '../../../src/toolchain/polls.js'
import { dropStructReturn, neutralize, prepare } from '../../../src/toolchain/prepare.js'
import { renameLibraryCalls } from '../../../src/toolchain/renames.js'
import { addShadowFrames } from '../../../src/toolchain/shadow-frames.js'
import { dropTailMarks } from '../../../src/toolchain/tail-marks.js'
import { lowerThreadLocals } from '../../../src/toolchain/thread-locals.js'
import { refuseUnsupported } from '../../../src/toolchain/unsupported.js'
import { lowerVariadics } from '../../../src/toolchain/variadics.js'

const module = (body: string) => parseModule(`target datalayout = "e"\n${body}`)

describe('which calls are sites', () => {
  const program = module(`
@table = global [1 x ptr] [ptr @taken]
define i32 @taken(ptr %p, i32 %n) {
b:
  call void @${PARK}()
  ret i32 0
}
define i32 @other(i64 %n) {
b:
  ret i32 0
}
define i32 @direct(i32 %n) {
b:
  %r = call i32 @taken(ptr null, i32 1)
  ret i32 %r
}
define i32 @same(ptr %f) {
b:
  %r = call i32 %f(ptr null, i32 1)
  ret i32 %r
}
define i32 @differs(ptr %f) {
b:
  %r = call i32 %f(i64 1)
  ret i32 %r
}
define i32 @unprototyped(ptr %f) {
b:
  %r = call i32 (...) %f(i64 1)
  ret i32 %r
}
define void @loop() {
b:
  call void @loop()
  ret void
}
`)
  const graph = new CallGraph(program)
  const migratable = graph.reaching([PARK])

  it('follows direct calls, and pointers to functions of the same parameter types only', () => {
    expect([...migratable].sort()).toEqual(['direct', 'same', 'taken', 'unprototyped'])
  })

  it('takes a call of a function that cannot park for no site', () => {
    const isSite = siteTest(graph, migratable)
    expect(isSite('  %r = call i32 @taken(ptr null, i32 1)')).toBe(true)
    expect(isSite('  %r = call i32 @other(i64 1)')).toBe(false)
    expect(isSite('  call void asm sideeffect "", "~{memory}"()')).toBe(false)
  })
})

describe('polls', () => {
  const loop = (next = 'add i32 %i, 1', test = 'eq i32 %j, %n') =>
    module(`
define i32 @f(i32 %n) {
entry:
  br label %loop
loop:
  %i = phi i32 [ 0, %entry ], [ %j, %loop ]
  %j = ${next}
  %c = icmp ${test}
  br i1 %c, label %out, label %loop
out:
  %r = phi i32 [ %j, %loop ]
  ret i32 %r
}`)

  it('puts one before the branch that closes a loop nobody can count, and keeps the phis right', () => {
    const program = loop('mul i32 %i, 3')
    expect(insertPolls(program, new CallGraph(program), everyCycle)).toBe(1)
    const text = printModule(program)
    expect(text).toContain('%i = phi i32 [ 0, %entry ], [ %j, %imago.on.0 ]')
    expect(text).toContain('%r = phi i32 [ %j, %imago.on.0 ]')
    expect(text).toMatch(/imago\.park\.0:\n {2}call void @__imago_park\(\)/)
  })

  it('polls in a counted loop once in a strip, outside of its iterations', () => {
    const program = loop()
    expect(insertPolls(program, new CallGraph(program), everyCycle)).toBe(1)
    const [fn] = functionsOf(program)
    const block = (label: string) => fn!.blocks.find(each => each.label === label)!.instructions.join('\n')
    expect(block('loop')).not.toContain('__imago_request')
    expect(block('loop')).toContain('icmp ne i32 %j, %imago.limit.0')
    expect(block('imago.end.0')).toContain('label %imago.again.0, label %out')
    expect(block('imago.again.0')).toContain('@__imago_request')
    expect(block('out')).toContain('[ %j, %imago.end.0 ]')
  })

  it('puts none into a loop that is short for certain, but does when it calls something', () => {
    const short = loop('add i32 %i, 1', 'eq i32 %j, 40')
    expect(insertPolls(short, new CallGraph(short), everyCycle)).toBe(0)
    const calling = loop('add i32 %i, 1', 'eq i32 %j, 40')
    functionsOf(calling)[0]!.blocks[1]!.instructions.splice(1, 0, '  call void @somebody()')
    expect(insertPolls(calling, new CallGraph(calling), everyCycle)).toBe(1)
  })

  /** `for (i) for (j = from; j < n; j++) sum++`, `from` and `n` as given. */
  const nest = (from: string, bound: string) =>
    module(`
define i64 @f(i64 %m, i64 %n, ptr %p) {
entry:
  br label %outer
outer:
  %i = phi i64 [ 0, %entry ], [ %i2, %last ]
  %s = phi i64 [ 0, %entry ], [ %s3, %last ]
  %k = load i64, ptr %p
  br label %inner
inner:
  %j = phi i64 [ ${from}, %outer ], [ %j2, %inner ]
  %t = phi i64 [ %s, %outer ], [ %t2, %inner ]
  %t2 = add i64 %t, %j
  %j2 = add nsw i64 %j, 1
  %c = icmp slt i64 %j2, ${bound}
  br i1 %c, label %inner, label %last
last:
  %s3 = phi i64 [ %t2, %inner ]
  %i2 = add nuw i64 %i, 1
  %d = icmp eq i64 %i2, %m
  br i1 %d, label %out, label %outer
out:
  %r = phi i64 [ %s3, %last ]
  ret i64 %r
}`)
  const blockOf = (program: ReturnType<typeof module>, label: string) =>
    functionsOf(program)[0]!
      .blocks.find(each => each.label === label)
      ?.instructions.join('\n')

  it('leaves a loop as it is in a version of the loop around for when it is short', () => {
    const program = nest('0', '%n')
    expect(insertPolls(program, new CallGraph(program), everyCycle)).toBe(3)
    expect(blockOf(program, 'entry')).toContain(
      'br i1 %imago.short.0.0, label %imago.short.0, label %imago.long.0',
    )
    expect(blockOf(program, 'inner.short.0')).toContain('icmp slt i64 %j2.short.0, %n\n')
    expect(blockOf(program, 'inner')).toContain('icmp slt i64 %j2, %imago.limit.0')
    expect(blockOf(program, 'out')).toContain('[ %s3, %imago.end.2 ], [ %s3.short.0, %imago.end.1 ]')
  })

  it('makes no other version when only the loop around knows how often a loop runs', () => {
    const program = nest('0', '%k')
    expect(insertPolls(program, new CallGraph(program), everyCycle)).toBe(2)
    expect(printModule(program)).not.toContain('.short.0:')
  })

  it('takes a loop for short by its way, not by its end: one from far below zero to zero is long', () => {
    const program = nest('-4000000000', '0')
    expect(insertPolls(program, new CallGraph(program), everyCycle)).toBe(2)
    expect(blockOf(program, 'outer')).toContain('%imago.limit.0.short.way = sub i64 0, -4000000000')
  })

  it('puts none where the program polls by itself', () => {
    const program = loop()
    expect(insertPolls(program, new CallGraph(program), parsePolicy(['explicit']))).toBe(0)
  })

  it('refuses to poll in a function that is not there', () => {
    const program = loop()
    expect(() => insertPolls(program, new CallGraph(program), parsePolicy(['nobody']))).toThrow('nobody')
  })
})

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

describe('shadow frames', () => {
  const framed = (body: string) => {
    const program = module(`${body}\ndeclare void @${PARK}()\n`)
    const graph = new CallGraph(program)
    const migratable = graph.reaching([PARK])
    const isSite = siteTest(graph, migratable)
    prepare(program, migratable, isSite)
    const result = addShadowFrames(program, migratable, isSite, new Locations(program))
    return { text: printModule(program), result, fn: functionsOf(program)[0]! }
  }

  it('stores what lives across a site once, and brings it back after each', () => {
    const { text, result } = framed(`
define i32 @f(i32 %n) {
entry:
  %x.reg2mem = alloca i32
  store i32 5, ptr %x.reg2mem
  call void @${PARK}()
  %b = load i32, ptr %x.reg2mem
  call void @${PARK}()
  %c = load i32, ptr %x.reg2mem
  ret i32 %c
}`)
    expect(result.sites.map(site => site.id)).toEqual([1, 2])
    expect(text).toContain('= type { i64, i32, [0 x i128] }')
    expect(text.match(/notail call void @__imago_park/g)).toHaveLength(2)
    const frameStores = text.match(/store i32 %imago\.\d+, ptr %imago\.\d+/g) ?? []
    expect(frameStores).toHaveLength(1)
    expect(text.match(/stackmap\(i64 \d, i32 0\)/g)).toHaveLength(2)
  })

  it('leaves the shadow pointer alone on a path without sites', () => {
    const { fn } = framed(`
define i32 @f(i1 %c) {
entry:
  br i1 %c, label %short, label %long
short:
  ret i32 0
long:
  call void @${PARK}()
  ret i32 1
}`)
    const short = fn.blocks.find(block => block.label === 'short')!
    const after = fn.blocks.find(block => block.label.startsWith('imago.after'))!
    expect(short.instructions.join()).not.toContain('@__imago_thread')
    expect(after.instructions.join()).toContain('@__imago_thread')
  })

  it('keeps a local whose address is taken in the frame, aligned as it asks', () => {
    const { text } = framed(`
define void @f() {
entry:
  %a = alloca [3 x i8], align 64
  call void @use(ptr %a)
  call void @${PARK}()
  ret void
}
declare void @use(ptr)`)
    expect(text).toContain('[0 x i128], [3 x i8], [64 x i8]')
    expect(text).toContain('@llvm.ptrmask.p0.i64(ptr')
    expect(text).not.toMatch(/alloca \[3 x i8\]/)
  })

  it('holds its place from the entry on when it holds something: who is called may call back', () => {
    const body = (first: string) => `
define i32 @f() {
entry:
${first}
  br label %next
next:
  call void @sort(ptr null)
  call void @${PARK}()
  ret i32 0
}
declare void @sort(ptr)`
    const lowersFirst = (first: string) => {
      const [entry] = framed(body(first)).fn.blocks
      return entry!.instructions.some(each => /store ptr %imago\.\d+, ptr @__imago_thread/.test(each))
    }
    expect(lowersFirst('  %a = alloca [500 x i64], align 16')).toBe(true)
    expect(lowersFirst('  %a = add i32 1, 2')).toBe(false)
  })

  it('refuses an array of variable length', () => {
    expect(() =>
      framed(`
define void @f(i64 %n) {
entry:
  %a = alloca i8, i64 %n
  call void @${PARK}()
  ret void
}`),
    ).toThrow('variable length')
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
