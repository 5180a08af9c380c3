import { describe, expect, it } from 'vitest'
import { CallGraph, PARK, siteTest } from '../../../src/toolchain/call-graph.js'
import { functionsOf, Locations, printModule } from '../../../src/toolchain/ir.js'
import { prepare } from '../../../src/toolchain/prepare.js'
import { addShadowFrames } from '../../../src/toolchain/shadow-frames.js'
import { module } from './module.js'

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
