/** What other tools make of our images: gdb opens them, readelf finds nothing wrong. */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { packageRoot } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { canBeFrozen, imago } from '../../helpers/imago.js'
import { buildWorkload } from '../../helpers/programs.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

/** An image of four threads at work, which none of them ends before, and the program's binary. */
async function imageOfFourThreads(): Promise<{ image: string; binary: string; folder: string }> {
  const folder = temporaryFolder()
  const binary = buildWorkload('programs/threads4', ['-g'])
  const child: ChildProcess = spawn(path.join(packageRoot, 'imago'), ['run', '--', binary, '10000000000'], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  await canBeFrozen(child.pid!)
  await sleep(300)
  const image = path.join(folder, 'image')
  const taken = imago(['checkpoint', String(child.pid), '-o', image, '--stop'])
  expect(taken.code, taken.stderr).toBe(0)
  return { image, binary, folder }
}

describe('an image', () => {
  test('opens in gdb: every thread, with its function and its source line', async ({ skip }) => {
    skip(spawnSync('gdb', ['--version']).status !== 0, 'gdb is not installed')
    const { image, binary } = await imageOfFourThreads()
    const gdb = spawnSync(
      'gdb',
      ['-batch', '-nx', binary, image, '-ex', 'thread apply all backtrace', '-ex', 'print total'],
      { encoding: 'utf8' },
    )
    expect(gdb.stdout.match(/\bworker \(argument=/g)?.length, gdb.stdout + gdb.stderr).toBeGreaterThanOrEqual(
      4,
    )
    expect(gdb.stdout).toMatch(/in main \(argc=/)
    expect(gdb.stdout).toMatch(/\$1 = \d+/)
    expect(gdb.stdout + gdb.stderr).not.toMatch(/warning: (?!Unable to find libthread_db)/)
  })

  test.for([
    ['readelf -W -h -l', /CORE \(Core file\)/],
    ['readelf -W -n', /NT_PRSTATUS(?:.*NT_PRSTATUS){4}/s],
    ['eu-readelf -h -l -n', /PRSTATUS(?:.*PRSTATUS){4}/s],
    ['eu-stack --executable=BINARY --core', /\bworker\b.*\bmain\b|\bmain\b.*\bworker\b/s],
    ['file', /ELF 64-bit LSB core file.*threads4/],
  ] as const)('is read by %s without a complaint', async ([command, understood], { skip }) => {
    const [tool, ...options] = command.split(' ')
    skip(spawnSync(tool!, ['--version']).status !== 0, `${tool} is not installed`)
    const { image, binary } = await imageOfFourThreads()
    const words = [...options.map(option => option.replace('BINARY', binary)), image]
    const said = spawnSync(tool!, words, { encoding: 'utf8' })
    expect(said).toMatchObject({ status: 0, stderr: '', stdout: expect.stringMatching(understood) })
  })

  test('is shown by inspect with the function that each thread is in', async () => {
    const { image } = await imageOfFourThreads()
    const text = imago(['inspect', image]).stdout
    expect(text).toMatch(/threads \(5\)/)
    expect(text.match(/worker/g)?.length ?? 0, text).toBeGreaterThanOrEqual(1)
    const json = JSON.parse(imago(['inspect', image, '--json']).stdout)
    expect([json.schema, json.kind, json.processes[0].threads.length]).toEqual([1, 'process', 5])
  })

  test('differs from a later one of the same program in registers and pages, not in mappings', async () => {
    const folder = temporaryFolder()
    const binary = buildWorkload('programs/count')
    const child = spawn(path.join(packageRoot, 'imago'), ['run', '--', binary, '100000'], {
      cwd: folder,
      stdio: 'ignore',
    })
    await canBeFrozen(child.pid!)
    await sleep(100)
    const images = ['first', 'second'].map(name => path.join(folder, name))
    for (const image of images) {
      const taken = imago(['checkpoint', String(child.pid), '-o', image])
      expect(taken.code, taken.stderr).toBe(0)
    }
    child.kill('SIGKILL')
    const diff = imago(['diff', ...images, '--json'])
    expect(diff.code, diff.stderr).toBe(1)
    const [process] = JSON.parse(diff.stdout).processes
    expect(process.pages.length).toBeGreaterThan(0)
    expect(process.fields).toEqual([])
    expect(imago(['diff', images[0]!, images[0]!]).code).toBe(0)
    expect(fs.existsSync(images[1]!)).toBe(true)
  })
})
