import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { guest, needGuests, ticks } from './guests.js'
import { start } from './running.js'

/** A guest that counts, once it has begun. */
async function counting(cwd: string, count: number, ...words: string[]) {
  const running = start(cwd, 'vm', 'run', '-q', ...words, guest('ticks'), String(count))
  await running.said('tick 0\n')
  return { ...running, pid: running.child.pid! }
}

/** How far an image had counted: what comes when it goes on begins there. */
function rest(image: string, count: number): { from: number } {
  const restored = imago(['vm', 'restore', '-q', image])
  expect(restored.code).toBe(5)
  const from = Number(/^tick (\d+)/.exec(restored.stdout)![1])
  expect(restored.stdout).toBe(ticks(from, count))
  return { from }
}

test('imago checkpoint saves a running guest, which goes on; the image goes on as well', async ({ skip }) => {
  needGuests(skip)
  const cwd = temporaryFolder()
  const running = await counting(cwd, 40)
  const image = path.join(cwd, 'a.vm')
  const saved = imago(['checkpoint', String(running.pid), '-o', 'a.vm'], { cwd })
  expect(saved).toMatchObject({ code: 0, stdout: `${image}\n` })
  expect(saved.stderr).toMatch(/^\d+.* KiB, pause .*, verified after /)
  expect(await running.ended).toBe(5)
  expect(running.output()).toBe(ticks(0, 40))
  rest(image, 40)
})

test('imago checkpoint --stop ends the guest where its image goes on', async ({ skip }) => {
  needGuests(skip)
  const cwd = temporaryFolder()
  const running = await counting(cwd, 40)
  const saved = imago(['checkpoint', String(running.pid), '--stop', '--json'], { cwd })
  expect(saved.code, saved.stderr).toBe(0)
  const result = JSON.parse(saved.stdout) as { path: string; bytes: number; pauseMs: number }
  expect(result).toMatchObject({ path: path.join(cwd, 'ticks.vm') })
  expect(result.bytes).toBeGreaterThan(4096)
  expect(await running.ended).toBe(0)
  const { from } = rest(result.path, 40)
  expect(running.output()).toBe(ticks(0, from))
})

test('an image that cannot be written is told to who asked, and the guest goes on', async ({ skip }) => {
  needGuests(skip)
  const cwd = temporaryFolder()
  const running = await counting(cwd, 600)
  const nowhere = path.join(cwd, 'no/such/folder/a.vm')
  const failed = imago(['checkpoint', String(running.pid), '--stop', '-o', nowhere])
  expect(failed.code).toBe(1)
  expect(failed.stderr).toContain(`the image cannot be written (${nowhere})`)
  running.child.kill('SIGUSR2')
  expect(await running.ended).toBe(0)
  expect(fs.existsSync(path.join(cwd, 'ticks.vm'))).toBe(true)
})

test('a process that is neither a guest nor frozen from inside is refused by name of both', () => {
  const refused = imago(['checkpoint', String(process.pid)])
  expect(refused.code).toBe(5)
  expect(refused.stderr).toContain('and runs no guest of a micro-VM')
})
