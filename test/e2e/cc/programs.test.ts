import fs from 'node:fs'
import path from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { findPart, packageRoot } from '../../../src/lib/parts.js'
import { readProgram } from '../../../src/toolchain/program.js'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const emulator = () => {
  const part = findPart('qemu-user')
  return part && path.join(part, 'usr/bin/qemu-aarch64-static')
}
const run = (command: string, args: readonly string[], env: Record<string, string> = {}, cwd?: string) => {
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 240_000,
    cwd,
  })
  return { code: result.status, stdout: result.stdout, stderr: result.stderr }
}
let missing = ''
beforeAll(() => {
  for (const part of ['clang19', 'musl'])
    if (findPart(part) === undefined)
      missing = `the part ${part} is not in the cache: npm run setup -- ${part}`
})

/** Name, arguments that keep it short under an emulator, and the level of optimization where it is not -O2. */
const workloads: ReadonlyArray<readonly [string, readonly string[], string?]> = [
  ['cross/fib-tree', ['18', '2000']],
  ['cross/structures', ['10']],
  ['cross/interpreter', ['2000', '2']],
  ['cross/threads', ['20000']],
  ['cross/files', ['.', '20']],
  ['npb/is', ['S']],
  ['test/e2e/cc/programs/library', ['.']],
  ['test/e2e/cc/programs/loops', []],
  ['test/e2e/cc/programs/gotos', []],
  ['test/e2e/cc/programs/c11', []],
  ['test/e2e/cc/programs/callbacks', []],
  ['test/e2e/cc/programs/numbers', []],
  ['test/e2e/cc/programs/numbers', [], '-O0'],
]

describe('imago cc', () => {
  it.for(workloads)('%s does on both ISAs what the host’s compiler makes of it', ([
    name,
    args,
    level = '-O2',
  ], context) => {
    context.skip(missing !== '', missing)
    const folder = temporaryFolder()
    const source = path.join(packageRoot, name.startsWith('test/') ? '' : 'workloads', `${name}.c`)
    const program = path.join(folder, 'prog')
    const compiled = imago(['cc', level, source, '-o', program])
    expect(compiled.stderr).toBe('')
    expect(compiled.code).toBe(0)
    expect(
      run('gcc', ['-O2', '-ffp-contract=off', '-w', '-pthread', source, '-o', `${program}.host`, '-lm']).code,
    ).toBe(0)
    const expected = run(`${program}.host`, args, {}, folder)
    expect(expected.code).toBe(0)
    expect(run(`${program}_x86-64`, args, {}, folder)).toEqual(expected)
    // Every poll parks for no time and comes back with other callee-saved registers: none may be needed.
    expect(run(`${program}_x86-64`, args, { IMAGO_SCRAMBLE: '1' }, folder)).toEqual(expected)
    const qemu = emulator()
    context.skip(qemu === undefined, 'the part qemu-user is not in the cache: npm run setup -- qemu-user')
    if (qemu !== undefined) {
      expect(run(qemu, [`${program}_aarch64`, ...args], {}, folder)).toEqual(expected)
      expect(run(qemu, [`${program}_aarch64`, ...args], { IMAGO_SCRAMBLE: '1' }, folder)).toEqual(expected)
    }
    const description = readProgram(`${program}.imago.json`)
    expect(description.sites.size).toBeGreaterThan(0)
  })

  const compile = (
    context: { skip: (condition: boolean, reason: string) => void },
    files: Record<string, string>,
  ) => {
    context.skip(missing !== '', missing)
    const folder = temporaryFolder()
    for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(folder, name), text)
    return folder
  }

  it('works as CC in a Makefile, with objects, an archive and libraries of libc', context => {
    const folder = compile(context, {
      'one.c':
        'int two(int); int main(void) { for (volatile int i = 0; i < 3; i++) if (two(i) != 2 * i) return 1; return 0; }',
      'two.c': '#include <math.h>\nint two(int n) { return (int)(sqrt((double)n * n) * 2); }',
      Makefile:
        'prog: one.o libtwo.a\n\t$(CC) -o $@ one.o -L. -ltwo -lm\nlibtwo.a: two.o\n\tar rcs $@ two.o\n%.o: %.c\n\t$(CC) $(CFLAGS) -c $< -o $@\n',
    })
    const made = run(
      'make',
      ['-s', `CC=${path.join(packageRoot, 'imago')} cc`, 'CFLAGS=-O2 -g -Wall', 'prog'],
      {},
      folder,
    )
    expect(made.code).toBe(0)
    expect(run(path.join(folder, 'prog_x86-64'), []).code).toBe(0)
  })

  it.for<[string, ...string[]]>([
    ['loops', '--migrate-at', 'loops'],
    ['entries', '--migrate-at=entries'],
    ['entries and loops', '--migrate-at', 'entries,loops'],
    ['named functions', '--migrate-at', 'solve,step'],
    ['calls of imago_migrate()', '--migrate-at', 'explicit', '-DEXPLICIT'],
    ['calls of migrate() as for Popcorn Linux', '--migrate-at', 'explicit', '-DEXPLICIT', '-DPOPCORN'],
  ])('%s can be the places to migrate at', ([, ...words], context) => {
    context.skip(missing !== '', missing)
    const folder = temporaryFolder()
    const source = path.join(packageRoot, 'test/e2e/cc/programs/places.c')
    const program = path.join(folder, 'prog')
    const compiled = imago(['cc', '-O2', ...words, source, '-o', program])
    expect([compiled.code, compiled.stderr]).toEqual([0, ''])
    const host = ['-O2', '-ffp-contract=off', '-w', '-pthread', source, '-o', `${program}.host`]
    expect(run('gcc', host).code).toBe(0)
    const expected = run(`${program}.host`, [])
    expect(expected.stdout).toContain('destroyed 230\n')
    expect(run(`${program}_x86-64`, [], { IMAGO_SCRAMBLE: '1' })).toEqual(expected)
  })

  it('builds what is laid out as the NAS benchmarks are: classes by header, common code, arrays by pointers of variable type', context => {
    context.skip(missing !== '', missing)
    const suite = path.join(temporaryFolder(), 'suite')
    fs.cpSync(path.join(packageRoot, 'test/e2e/cc/programs/suite'), suite, { recursive: true })
    fs.mkdirSync(path.join(suite, 'bin'))
    const words = ['-s', '-C', 'GR', `CC=${path.join(packageRoot, 'imago')} cc`, 'CLASS=S']
    const made = run('make', words, {}, suite)
    expect([made.code, made.stderr]).toEqual([0, ''])
    const native = run(path.join(suite, 'bin/gr.S_x86-64'), [])
    expect(native.stdout).toContain(': RIGHT')
    expect(run(path.join(suite, 'bin/gr.S_x86-64'), [], { IMAGO_SCRAMBLE: '1' })).toEqual(native)
    const qemu = emulator()
    context.skip(qemu === undefined, 'the part qemu-user is not in the cache: npm run setup -- qemu-user')
    expect(run(qemu!, [path.join(suite, 'bin/gr.S_aarch64')], { IMAGO_SCRAMBLE: '1' })).toEqual(native)
  })

  it('parks at a poll when SIGUSR2 and a park file ask, with complete frames', async context => {
    const folder = compile(context, {
      'a.c':
        '#include <stdio.h>\nint main(void) { puts("begun"); fflush(stdout); for (volatile long i = 0;; i++); }',
    })
    expect(imago(['cc', 'a.c', '-o', 'a'], { cwd: folder }).code).toBe(0)
    const { spawn } = await import('node:child_process')
    const child = spawn(path.join(folder, 'a_x86-64'), { stdio: ['ignore', 'pipe', 'ignore'] })
    try {
      await new Promise(resolve => child.stdout.once('data', resolve))
      const state = () => /^State:\s+(\w)/m.exec(fs.readFileSync(`/proc/${child.pid}/status`, 'utf8'))![1]
      expect(state()).toBe('R')
      fs.writeFileSync(`/tmp/imago-park-${child.pid}`, '')
      child.kill('SIGUSR2')
      await expect.poll(state, { timeout: 20_000 }).toBe('S')
    } finally {
      child.kill('SIGKILL')
    }
  })

  it('takes what was compiled before from the cache, and gives the same bytes', context => {
    const folder = compile(context, {
      'a.c': 'int main(void) { for (volatile int i = 0; i < 9; i++); return 0; }',
    })
    const bytes = () => {
      expect(imago(['cc', 'a.c', '-o', 'a'], { cwd: folder }).code).toBe(0)
      return fs.readFileSync(path.join(folder, 'a_aarch64')).toString('base64')
    }
    expect(bytes()).toBe(bytes())
  })

  it('prints the layout: one address, the size on each ISA', context => {
    const folder = compile(context, {
      'a.c': 'volatile int counter = 3; int main(void) { for (; counter; counter--); return 0; }',
    })
    const { stdout, code } = imago(['cc', '--map', 'a.c', '-o', 'a'], { cwd: folder })
    expect(code).toBe(0)
    expect(stdout).toMatch(/0x[0-9a-f]+\s+4\s+4\s+\.data\.counter\s+program\.o/)
  })

  it.for<[string, string, RegExp]>([
    [
      'setjmp',
      '#include <setjmp.h>\njmp_buf b;\nint main(void) {\n  if (setjmp(b)) return 1;\n  for (int i = 0; i < 9; i++) __asm__("" ::: "memory");\n  return 0;\n}',
      /a\.c:4: main: setjmp across a migration point/,
    ],
    [
      'a variable array',
      'int use(char *);\nint main(int n, char **v) {\n  char a[n];\n  for (int i = 0; i < n; i++) ((volatile char *)a)[i] = v[0][i];\n  return use(a);\n}\nint use(char *a) { return a[0]; }',
      /main: an array of variable length/,
    ],
    [
      'assembler',
      'int main(void) {\n  for (int i = 0; i < 9; i++)\n    __asm__ volatile("pause");\n  return 0;\n}',
      /a\.c:3: main: inline assembler/,
    ],
    [
      'long double',
      'long double x = 1;\nint main(void) {\n  for (int i = 0; i < 9; i++) x *= 2;\n  return (int)x;\n}',
      /main: long double/,
    ],
    [
      'alloca',
      '#include <alloca.h>\nint use(char *);\nint main(int n, char **v) {\n  char *a = alloca(n * 8);\n  for (int i = 0; i < n; i++) ((volatile char *)a)[i] = v[0][i];\n  return use(a);\n}\nint use(char *a) { return a[0]; }',
      /main: an array of variable length \(or alloca\(\)\).*\(a\.c:4\)/,
    ],
    [
      'a context',
      '#include <ucontext.h>\nint main(int n, char **v) {\n  ucontext_t c;\n  for (volatile int i = 0; i < n; i++) getcontext(&c);\n  return v == 0;\n}',
      /a\.c:4: main: setjmp across a migration point/,
    ],
    [
      'a system call by number',
      '#include <unistd.h>\nint main(int n, char **v) {\n  for (int i = 0; i < n; i++) syscall(39);\n  return v == 0;\n}',
      /a\.c:3: main: a system call by its number/,
    ],
    [
      'the address of a frame',
      'void *volatile p;\nint main(int n, char **v) {\n  for (volatile int i = 0; i < n; i++) p = __builtin_frame_address(0);\n  return v == 0;\n}',
      /a\.c:[23]: main: the address of a frame/,
    ],
    [
      'an alias',
      'int one(void) { return 1; }\nint two(void) __attribute__((alias("one")));\nint main(int n, char **v) {\n  for (volatile int i = 0; i < n; i++) two();\n  return v == 0;\n}',
      /two: a symbol that is an alias/,
    ],
    [
      'a complex float for libc',
      '#include <complex.h>\nint main(int n, char **v) {\n  float complex z = 1;\n  for (volatile int i = 0; i < n; i++) z = cexpf(z);\n  return crealf(z) > 3 && v;\n}',
      /a\.c:4: cexpf: a function of libc that takes or gives a complex float/,
    ],
    [
      'an instruction of one processor',
      '#include <emmintrin.h>\nint main(int n, char **v) {\n  __m128i s = _mm_set1_epi32(n);\n  for (volatile int i = 0; i < n; i++)\n    s = _mm_madd_epi16(s, s);\n  return _mm_cvtsi128_si32(s) && v;\n}',
      /a\.c:5: main: an instruction of x86-64/,
    ],
    [
      'a structure by value that is aligned like no stack',
      '#include <stdalign.h>\nstruct s { alignas(64) int n; };\n__attribute__((noinline)) int f(struct s s) { return s.n; }\nint main(int n, char **v) {\n  struct s s = {n};\n  for (volatile int i = 0; i < n; i++) s.n += f(s);\n  return s.n && v;\n}',
      /main: its native frame has no fixed size .*\(a\.c:[46]\)/,
    ],
    [
      'assembler at the top of a file',
      '__asm__(".globl x\\nx:");\nint main(int n, char **v) {\n  for (volatile int i = 0; i < n; i++);\n  return v == 0;\n}',
      /assembler at the top level of a file/,
    ],
  ])('refuses %s with the function and the line, and writes nothing', ([, source, message], context) => {
    const folder = compile(context, { 'a.c': source })
    const { code, stderr } = imago(['cc', '-O1', 'a.c', '-o', 'a'], { cwd: folder })
    expect(stderr).toMatch(message)
    expect(code).toBe(4)
    expect(fs.readdirSync(folder)).toEqual(['a.c'])
  })

  it('makes a program without migration points too, and says that it cannot be moved', context => {
    const folder = compile(context, { 'a.c': 'int main(void) { return 3; }' })
    const { code, stderr } = imago(['cc', 'a.c', '-o', 'a'], { cwd: folder })
    expect(stderr).toContain('cannot be moved')
    expect(code).toBe(0)
    expect(run(path.join(folder, 'a_x86-64'), []).code).toBe(3)
  })

  it('says that a program has no main, in one line', context => {
    const folder = compile(context, { 'a.c': 'int two(void) { return 2; }' })
    const { code, stderr } = imago(['cc', 'a.c', '-o', 'a'], { cwd: folder })
    expect(stderr).toMatch(/^imago: the program has no main\n/)
    expect(code).toBe(1)
  })

  it('says what is wrong with a program as clang says it', context => {
    const folder = compile(context, { 'a.c': 'int main(void) { return x; }' })
    const { code, stderr } = imago(['cc', 'a.c', '-o', 'a'], { cwd: folder })
    expect(code).toBe(1)
    expect(stderr).toContain("a.c:1:25: error: use of undeclared identifier 'x'")
  })
})
