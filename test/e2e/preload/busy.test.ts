/**
 * A program goes on as soon as it is copied when it shares nothing with its copy that changes then, and as soon as that is copied otherwise. What is
 * described later must be what was at the moment of the copy.
 */
import fs from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { expect, test } from 'vitest'
import { imago } from '../../helpers/imago.js'
import { rounds } from '../../helpers/rounds.js'
import { startKeep } from './freezer.js'

test.for([
  'position',
  'memory',
  'pipe',
  'counter',
  'lock',
  'file',
  'unforked',
])('what changes all the time is kept as it was when the program was frozen: %s', async part => {
  const program = await startKeep('busy', [part])
  for (let life = 0; life < rounds(20, 4); life++) {
    await sleep(Math.random() * 20)
    await program.freeze()
    await program.kill()
    await program.restart('--files', 'restore')
  }
  expect(await program.finish()).toEqual({ code: 0, output: 'ok\n' })
})

test('a program that went on at once has neither a child nor a thread nor an open file more than before', async () => {
  const program = await startKeep('busy', ['nothing'])
  const has = () => ({
    children: fs.readFileSync(`/proc/${program.pid}/task/${program.pid}/children`, 'utf8'),
    threads: fs.readdirSync(`/proc/${program.pid}/task`).length,
    files: fs.readdirSync(`/proc/${program.pid}/fd`),
  })
  const before = has()
  expect(before).toMatchObject({ children: '', threads: 1 })
  for (let i = 0; i < 3; i++) {
    expect(imago(['checkpoint', String(program.pid)])).toMatchObject({ code: 0 })
    await program.until(() => isDeepStrictEqual(has(), before), 'end of what a checkpoint makes')
  }
  expect(await program.finish()).toEqual({ code: 0, output: 'ok\n' })
})

/** Freezes the program busy once; true when it went on without waiting for its copy, and so keeps what it shares with that mapped. */
async function goesOnAtOnce(part: string): Promise<boolean> {
  const program = await startKeep('busy', [part])
  const mappings = () =>
    fs
      .readFileSync(`/proc/${program.pid}/maps`, 'utf8')
      .split('\n')
      .filter(line => line.includes('/dev/zero')).length
  const before = mappings()
  await program.freeze()
  const after = mappings()
  await program.kill()
  return after > before
}

test('little memory, content and state that it shares with its copy does not keep a program standing', async ctx => {
  ctx.skip(
    !(await goesOnAtOnce('nothing')),
    'this kernel, or what the test has open, keeps every program standing',
  )
  for (const part of ['position', 'memory', 'pipe', 'counter', 'lock', 'file'])
    expect({ part, goesOn: await goesOnAtOnce(part) }).toEqual({ part, goesOn: true })
})
