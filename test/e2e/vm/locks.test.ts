/** A guest's locks on files wake up with it, or it does not wake up. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { guest, needGuests } from './guests.js'
import { deafPort, folderWithKey, serve, start } from './running.js'

/** Which of the locks that the guest takes another process may have: record locks by first byte and kind, and flock. */
const probe = `
import fcntl, sys
f = open(sys.argv[1], "r+")
def free(take):
    try: take()
    except OSError: return False
    return True
record = lambda kind, first: free(lambda: fcntl.lockf(f, kind | fcntl.LOCK_NB, 1, first))
print(record(fcntl.LOCK_SH, 12), record(fcntl.LOCK_EX, 12), record(fcntl.LOCK_EX, 50), record(fcntl.LOCK_SH, 5000),
      free(lambda: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)))
`
const allFree = 'True True True True True'
const held = 'True False True False False'
const free = (file: string) => spawnSync('python3', ['-c', probe, file], { encoding: 'utf8' }).stdout.trim()

/** A folder with a file to lock, and a key. */
function folder(): { cwd: string; file: string } {
  const cwd = folderWithKey()
  const file = path.join(cwd, 'file')
  fs.writeFileSync(file, 'x'.repeat(200))
  return { cwd, file }
}

test.for([
  ['kvm'],
  ['unicorn'],
] as const)('locks that a guest held are taken again, and a guest whose lock another process has is refused by name (%s)', async ([
  engine,
], { skip }) => {
  needGuests(skip)
  const { cwd, file } = folder()
  const words = ['vm', 'run', '-q', '--engine', engine, '--with-files', '-o', 'a.vm']
  const saved = imago([...words, guest('locks'), 'file'], { cwd })
  expect(saved).toMatchObject({ code: 0, stdout: 'locked\n' })
  expect(free(file)).toBe(allFree)

  const script =
    'import fcntl,sys; f=open(sys.argv[1],"r+"); fcntl.lockf(f,fcntl.LOCK_EX,1,150); print("held",flush=True); sys.stdin.read()'
  const other = spawn('python3', ['-c', script, file], { stdio: ['pipe', 'pipe', 'inherit'] })
  onTestFinished(() => void other.kill('SIGKILL'))
  await once(other.stdout, 'data')
  const refused = imago(['vm', 'restore', '-q', 'a.vm'], { cwd })
  expect(refused.code).toBe(4)
  expect(refused.stderr).toContain(`another process has the lock that the guest holds on file (${file})`)
  expect(refused.stderr).toContain(`process ${other.pid}\n`)
  other.stdin.end()
  await once(other, 'close')

  const restored = start(cwd, 'vm', 'restore', '-q', 'a.vm')
  await restored.said('goes on')
  expect(free(file)).toBe(held)
  // A save that reads the file's content leaves the locks where they are.
  const again = imago(['checkpoint', String(restored.child.pid), '--with-files', '-o', 'b.vm'], { cwd })
  expect(again.code, again.stderr).toBe(0)
  expect(free(file)).toBe(held)
  restored.child.stdin!.end()
  expect(await restored.ended, restored.output()).toBe(0)
})

test('a guest that could not be sent keeps its locks', async ({ skip }) => {
  needGuests(skip)
  const { cwd, file } = folder()
  const words = ['vm', 'send', '-q', '--key', 'key', '--retries', '0', '--run', guest('locks')]
  const stays = start(cwd, ...words, `127.0.0.1:${await deafPort()}`, 'file')
  await stays.said('goes on\n')
  expect(free(file)).toBe(held)
  stays.child.stdin!.end()
  expect(await stays.ended, stays.output()).toBe(0)
})

test.for([
  ['cold', [], ['file']],
  ['live', ['--live'], ['file', 'unsaved']],
] as const)('a guest that is sent (%s) within one host takes its locks with it', async ([, live, words], {
  skip,
}) => {
  needGuests(skip)
  const { cwd, file } = folder()
  const server = await serve(cwd)
  const send = ['vm', 'send', '-q', '--key', 'key', ...live, '--run', guest('locks')]
  const leaves = start(cwd, ...send, `127.0.0.1:${server.port}`, ...words)
  expect(await leaves.ended, leaves.output()).toBe(0)
  await server.said('==========================\n')
  expect(free(file)).toBe(held)
  server.child.stdin!.end()
  expect(await server.ended, server.output()).toBe(0)
})
