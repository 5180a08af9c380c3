import { spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Arm64Machine } from '../../../src/engines/arm64-machine/machine.js'
import { engine } from '../../../src/engines/criu/engine.js'
import { readImage } from '../../../src/formats/registry.js'
import { findPart, packageRoot } from '../../../src/lib/parts.js'
import { execFileSync } from '../../helpers/bounded.js'
import { missingCriu } from '../../helpers/criu-program.js'
import { imago } from '../../helpers/imago.js'

/**
 * The flow of the notes on the manual migration of IS, with imago in place of a hex editor: one program for both ISAs
 * with one layout, dumped by real criu in the aarch64 machine and here, recomposed, and restored here by real criu.
 */
const missing =
  Arm64Machine.missing() ??
  (process.arch !== 'x64' ? 'this host is not x86-64' : undefined) ??
  (findPart('clang19') === undefined
    ? 'clang 19 is not in the cache (npm run setup -- clang19)'
    : undefined) ??
  missingCriu()

let folder: string
let machine: Arm64Machine
/** Pid of the program on this host. */
let pid: number

const recipe = path.join(packageRoot, 'docs/examples/manual-migration.yaml')
const log = () => path.join(folder, 'log')

function build(target: string, output: string): void {
  const clang = path.join(findPart('clang19')!, 'usr/lib/llvm-19')
  const libraries = [path.join(clang, '../x86_64-linux-gnu'), path.join(clang, 'lib')].join(':')
  const source = path.join(packageRoot, 'test/e2e/criu/programs/is.c')
  const words = [
    [`--target=${target}-linux-gnu`, '-O2', '-ffreestanding', '-fno-stack-protector', '-fno-pic'],
    ['-fno-asynchronous-unwind-tables', '-Wall', '-Wextra', '-Werror', '-nostdlib', '-static'],
    ['-fuse-ld=lld', `--ld-path=${path.join(clang, 'bin/ld.lld')}`],
    ['-Wl,-Ttext=0x500000,-Tdata=0x600000,-Tbss=0x601000,-z,max-page-size=4096', source, '-o', output],
  ].flat()
  execFileSync(path.join(clang, 'bin/clang'), words, { env: { ...process.env, LD_LIBRARY_PATH: libraries } })
}

/** What the program prints, computed here: line n is "n sum". */
function* expectedLines(): Generator<string> {
  const table = new Array<bigint>(133 * 512 - 32).fill(0n)
  const numbers = [3n, 1n, 4n, 1n, 5n, 9n, 2n, 6n]
  let sum = 0n
  for (let count = 0; ; ) {
    const i = count % table.length
    table[i]! += BigInt(count) * 3n + (numbers[count % 78] ?? 0n)
    sum = (sum + table[i]!) & 0xffff_ffff_ffff_ffffn
    yield `${++count} ${sum}`
  }
}

function expectTrueFrom(lines: readonly string[]): void {
  const first = Number(lines[0]!.split(' ')[0])
  const all = expectedLines()
  for (let i = 1; i < first; i++) all.next()
  expect(lines).toEqual(lines.map(() => all.next().value))
}

const hostLines = () => (fs.existsSync(log()) ? fs.readFileSync(log(), 'utf8').split('\n').slice(0, -1) : [])

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const end = Date.now() + 60_000; !(await condition()); await new Promise(go => setTimeout(go, 50)))
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`)
}

function end(id: number): void {
  try {
    process.kill(id, 'SIGKILL')
  } catch {
    // It has ended.
  }
}

describe('the manual migration of IS', () => {
  beforeEach(({ skip }) => skip(missing !== undefined, missing))

  beforeAll(async () => {
    if (missing !== undefined) return
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-migration-'))
    build('x86_64', path.join(folder, 'is_x86-64'))
    build('aarch64', path.join(folder, 'is_aarch64'))
    fs.copyFileSync(recipe, path.join(folder, 'manual-migration.yaml'))

    machine = await Arm64Machine.boot()
    await machine.putFile(path.join(folder, 'is_aarch64'), '/w/is')
    await machine.must('cd /w && setsid ./is </dev/null >log 2>&1 & sleep 1')
    await until(async () => Number(await machine.must('wc -l < /w/log')) > 100, 'the aarch64 program counts')
    await machine.must('mkdir /dump && criu dump -t $(pidof is) -D /dump --shell-job --leave-stopped')
    await machine.getFolder('/dump', path.join(folder, 'dump-aarch64'))

    const out = fs.openSync(log(), 'w')
    const child = spawn(path.join(folder, 'is_x86-64'), {
      cwd: '/',
      stdio: ['ignore', out, out],
      detached: true,
    })
    fs.closeSync(out)
    pid = child.pid!
    await until(() => hostLines().length > 5, 'the x86-64 program counts')
    await engine.checkpoint(pid, { output: path.join(folder, 'dump-x86-64'), stop: true })
    await until(() => !fs.existsSync(`/proc/${pid}`), 'the x86-64 program is gone')
  })

  afterAll(async () => {
    await machine?.stop()
    if (pid !== undefined) end(pid)
    if (folder !== undefined) fs.rmSync(folder, { recursive: true, force: true })
  })

  test("an aarch64 dump of real criu is read: registers, mappings, and the thread's place in the program", async () => {
    const read = await readImage(path.join(folder, 'dump-aarch64'))
    if (read.kind !== 'process') throw new Error('not a process image')
    const [process] = read.image.processes
    expect(read.image.isa).toBe('aarch64')
    expect(process!.executable).toBe('/w/is')
    const pc = process!.threads[0]!.registers.general.get('pc')!
    expect(pc >= 0x500000n && pc < 0x502000n).toBe(true)
    const count = Number(process!.memory.readU64(0x600278n))
    const printed = (await machine.must('tail -n 1 /w/log')).split(' ')[0]
    expect(Math.abs(count - Number(printed))).toBeLessThanOrEqual(1)
    expect(imago(['verify', path.join(folder, 'dump-aarch64')]).stdout).toContain('sound')
  })

  test('the page breakdown names sections on both ISAs and warns of the clock pointer at offset 0x270', () => {
    for (const isa of ['aarch64', 'x86-64']) {
      const { stdout, stderr } = imago([
        'pages',
        path.join(folder, `dump-${isa}`),
        '--binary',
        path.join(folder, `is_${isa}`),
      ])
      for (const name of ['.text', '.data', '.bss', 'stack', 'vdso']) expect(stdout).toContain(name)
      expect(stderr).toMatch(/\(\.data\) offset 0x270 in data\+0x270 holds 0x[0-9a-f]+, the \w*clock_gettime/)
    }
  })

  test('restored in the aarch64 machine, the program goes on', async () => {
    await machine.must('kill -9 $(pidof is); sleep 0.2; cp /w/log /w/before')
    await machine.must('criu restore -D /dump --shell-job -d </dev/null >/dev/null 2>&1')
    await until(
      async () =>
        Number(await machine.must('wc -l < /w/log')) > Number(await machine.must('wc -l < /w/before')) + 3,
      'the restored program counts',
    )
    expectTrueFrom((await machine.must('cat /w/log')).trim().split('\n').slice(0, -1))
  })

  test('without the patch the data page brings the crash of the notes, and imago warns of it', async () => {
    const text = fs.readFileSync(path.join(folder, 'manual-migration.yaml'), 'utf8')
    const bare = path.join(folder, 'try1.yaml')
    fs.writeFileSync(bare, text.replace(/^ +patch:\n.*\n/m, ''))
    const made = imago(['recompose', bare, '-o', path.join(folder, 'try1')])
    expect(made.code, made.stderr).toBe(0)
    expect(made.stderr).toMatch(/0x600270 holds 0x[0-9a-f]+, the \w*clock_gettime of aarch64's vDSO/)
    const restored = engine.restore(path.join(folder, 'try1'), { detach: false }).then(each => each.wait())
    // It dies at once, or right after: at its first look at the clock.
    await expect(
      restored.then(
        code => code,
        error => error.message,
      ),
    ).resolves.toSatisfy(end => end === 128 + 11 || /died of SIGSEGV/.test(String(end)))
  })

  test('with the recipe of the notes the aarch64 computation goes on here, to the right numbers', async () => {
    const image = path.join(folder, 'image')
    const made = imago(['recompose', path.join(folder, 'manual-migration.yaml'), '-o', image])
    expect(made.code, made.stderr).toBe(0)
    expect(made.stderr).not.toContain('vDSO')
    expect(imago(['verify', image]).stdout).toContain('sound')
    const before = hostLines().length
    const restored = await engine.restore(image, { detach: false })
    await until(() => hostLines().length > before + 10, 'the migrated program counts')
    end(restored.pid)
    expect(await restored.wait()).toBe(128 + 9)
    const lines = hostLines().slice(before)
    expect(Number(lines[0]!.split(' ')[0])).toBeGreaterThan(100)
    // The x86-64 program stood in its sleep: the first line is the one after the aarch64 machine's last.
    expectTrueFrom(lines)
  })
})
