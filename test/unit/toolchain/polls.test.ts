import { describe, expect, it } from 'vitest'
import { CallGraph, PARK, siteTest } from '../../../src/toolchain/call-graph.js'
import { functionsOf, printModule } from '../../../src/toolchain/ir.js'
import { everyCycle, insertPolls, parsePolicy } from '../../../src/toolchain/polls.js'
import { module } from './module.js'

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
