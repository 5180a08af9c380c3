import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { startKeep } from './freezer.js'

const programs = [
  'memory',
  'registers',
  'threads',
  'signals',
  'timers',
  'files',
  'pipes',
  'sockets',
  'process',
  'waits',
  'clocks',
]

/** Runs a self-checking program through `generations` lives; it says "ok" and ends with 0 when all is as it was. */
async function live(name: string, generations: number, options: readonly string[], compiler = 'gcc') {
  const program = await startKeep(name, ['first', 'second'], compiler)
  for (let generation = 0; generation < generations; generation++) {
    await program.freeze()
    await program.kill()
    await program.restart(...options)
  }
  expect(await program.finish()).toEqual({
    code: 0,
    output: expect.stringMatching(/(^|\n)ok\n$/),
  })
}

describe('what a restored program finds as it was', () => {
  test.for(programs)('%s, after three lives', async (name, { skip }) => {
    skip(process.arch !== 'x64' && name === 'registers', 'the registers are those of x86-64')
    await live(name, 3, [])
  })

  test.for(programs)('%s, read eagerly', async name => {
    await live(name, 1, ['--eager'])
  })

  test.for(
    programs,
  )('%s, on a kernel with another vDSO (its own, but taken for a foreign one)', async name => {
    await live(name, name === 'clocks' ? 8 : 2, ['--foreign-vdso'])
  })

  test.for(programs.filter(name => name !== 'process'))('%s, with new thread ids', async name => {
    await live(name, 2, ['--pid', 'new'])
  })

  test.for(programs)('%s, in a pid namespace of its own', async (name, { skip }) => {
    skip(spawnSync('unshare', ['-Ur', 'true']).status !== 0, 'no user namespaces here')
    await live(name, 1, ['--pid', 'namespace'])
  })

  const laterThings = ['timer', 'thread', 'descriptors', 'shared', 'locked', 'unforked', 'forbidden']
  // At the first checkpoint after it what was known is wrong, at the second it is known again.
  const afterwards = laterThings.flatMap(what => [1, 2].map(times => [what, times] as const))
  test.for(
    afterwards,
  )('what it got after its first checkpoints: %s, in the image of the %i. one after that', async ([
    what,
    times,
  ]) => {
    const program = await startKeep('later', [what])
    const freeze = (count: number) => {
      for (let i = 0; i < count; i++)
        // waits for the writer, too, before which there is no next one
        expect(imago(['checkpoint', String(program.pid), '-o', program.image])).toMatchObject({ code: 0 })
    }
    freeze(3) // then it is known how little has to be asked
    fs.writeFileSync(path.join(program.folder, 'more'), '')
    await program.until(() => program.has('made'), 'what comes later')
    freeze(times)
    await program.kill()
    await program.restart()
    expect(await program.finish()).toEqual({ code: 0, output: 'ok\n' })
  })

  test('rights of protection keys (PKRU), after three lives', async ({ skip }) => {
    const flags = fs.readFileSync('/proc/cpuinfo', 'utf8')
    skip(!/\bospke\b/.test(flags), 'this processor, or its virtual machine, has no protection keys')
    await live('keys', 3, [])
  })

  test.for([
    'gcc',
    'musl-gcc',
  ])('waits on sockets with a time limit and on System V semaphores end when it says so, not with EINTR (%s)', async (compiler, {
    skip,
  }) => {
    skip(spawnSync(compiler, ['--version']).status !== 0, `${compiler} is not installed`)
    const program = await startKeep('waits', ['connected'], compiler)
    const words = ['checkpoint', String(program.pid), '-o', program.image]
    expect(imago(words)).toMatchObject({ code: 4, stderr: expect.stringContaining('a socket') }) // noticed by nobody, either
    for (let i = 0; i < 3; i++) expect(imago([...words, '--force'])).toMatchObject({ code: 0 })
    expect(await program.finish()).toEqual({ code: 0, output: 'ok\n' })
  })

  test('a program linked with musl', async ({ skip }) => {
    skip(spawnSync('musl-gcc', ['--version']).status !== 0, 'musl-gcc is not installed (musl-tools)')
    for (const name of ['pipes', 'sockets', 'files', 'threads', 'waits']) await live(name, 2, [], 'musl-gcc')
  })
})
