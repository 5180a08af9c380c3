/** Nothing here waits for ever: each wait of a monitor ends with the guest, with a signal, or with the time limit. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { guest, needGuests } from './guests.js'
import { deafPort, folderWithKey, serve, start } from './running.js'

test.for([
  ['pipe'],
  ['lock', 'file'],
  ['flock', 'file'],
])('a guest that waits in a call of the host (%s) can be saved and ended', async (words, { skip }) => {
  needGuests(skip)
  const cwd = temporaryFolder()
  fs.writeFileSync(path.join(cwd, 'file'), '')
  const holder = lockHolder(path.join(cwd, 'file'))
  await once(holder.stdout!, 'data')
  const waiting = start(cwd, 'vm', 'run', '-q', guest('stuck'), ...words)
  await waiting.said('waiting\n')
  await new Promise(resolve => setTimeout(resolve, 100))
  const saved = imago(['checkpoint', String(waiting.child.pid), '-o', 'a.vm'], { cwd })
  expect(saved.code, saved.stderr).toBe(0)
  waiting.child.kill()
  expect(await waiting.ended).toBe(130)
  // What was saved waits on.
  const restored = imago(['vm', 'restore', '-q', '--timeout', '300ms', 'a.vm'], { cwd })
  expect(restored.code, restored.stderr).toBe(130)
})

/** Holds both kinds of lock on a file, and says so. */
function lockHolder(file: string): ChildProcess {
  const script =
    'import fcntl,sys,time; f=open(sys.argv[1],"r+"); fcntl.lockf(f,fcntl.LOCK_EX); fcntl.flock(f,fcntl.LOCK_EX); print("held",flush=True); time.sleep(600)'
  const child = spawn('python3', ['-c', script, file], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  return child
}

test('a send that nobody answers ends at SIGTERM, and the guest is in its image', async ({ skip }) => {
  needGuests(skip)
  const cwd = folderWithKey()
  const target = `127.0.0.1:${await deafPort()}`
  const sending = start(cwd, 'vm', 'send', '--key', 'key', '-o', 'c.vm', '--run', guest('caramba'), target)
  await sending.said('retry in 1 second')
  sending.child.kill()
  expect(await sending.ended, sending.output()).toBe(130)
  expect(sending.output()).toContain('it is in its image')
  expect(imago(['vm', 'restore', '-q', 'c.vm'], { cwd }).code).toBe(0)
  expect(fs.readFileSync(path.join(cwd, 'ay_caramba.txt'), 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
})

test.for([
  ['SIGTERM', []],
  ['its time limit', ['--timeout', '5s']],
] as const)('a live send that nobody answers ends at %s', async ([how, words], { skip }) => {
  needGuests(skip)
  const cwd = folderWithKey()
  const target = `127.0.0.1:${await deafPort()}`
  const common = ['--key', 'key', '-o', 'c.vm', '--run', guest('ticks'), '--live', ...words]
  const sending = start(cwd, 'vm', 'send', ...common, target, '100000')
  if (how === 'SIGTERM') {
    await sending.said('retry in 1 second')
    sending.child.kill()
  }
  expect(await sending.ended, sending.output()).toBe(130)
  // A very slow machine may not have come so far as to keep the guest safe.
  if (sending.output().includes('kept safe')) expect(imago(['verify', 'c.vm'], { cwd }).code).toBe(0)
  expect(fs.existsSync(path.join(cwd, 'c.vm.sending'))).toBe(false)
})

test.for([
  ['cold', []],
  ['live', ['--live']],
] as const)('a send (%s) whose target stands still ends at SIGTERM', async ([, words], { skip }) => {
  needGuests(skip)
  const cwd = folderWithKey()
  const server = await serve(cwd)
  const target = `127.0.0.1:${server.port}`
  server.child.kill('SIGSTOP')
  const common = ['--key', 'key', '-o', 'c.vm', '--run', guest(words.length > 0 ? 'ticks' : 'caramba')]
  const sending = start(cwd, 'vm', 'send', ...common, ...words, target, '100000')
  // Its connection waits in the server's queue.
  await sending.said(words.length > 0 ? 'kept safe' : 'Upcoming instructions')
  await new Promise(resolve => setTimeout(resolve, 300))
  sending.child.kill()
  expect(await sending.ended, sending.output()).toBe(130)
  expect(imago(['verify', 'c.vm'], { cwd }).code).toBe(0)
})

test('a live send for later does not outlive its guest', async ({ skip }) => {
  needGuests(skip)
  const cwd = folderWithKey()
  const words = ['--live', '--after', '1h', '--key', 'key', '-o', 'c.vm', '--run', guest('ticks')]
  const sent = imago(['vm', 'send', ...words, '127.0.0.1:9', '2'], { cwd })
  expect(sent).toMatchObject({ code: 5, stdout: 'tick 0\ntick 1\n' })
  expect(sent.stderr).toContain('it was not sent')
})

test('a monitor ends with its guest though somebody is connected to it who asks nothing', async ({
  skip,
}) => {
  needGuests(skip)
  const cwd = temporaryFolder()
  const running = start(cwd, 'vm', 'run', '-q', guest('ticks'), '100000')
  await running.said('tick 0')
  const socket = net.connect(`/tmp/imago-vm-${process.getuid!()}/${running.child.pid}`)
  onTestFinished(() => void socket.destroy())
  await once(socket, 'connect')
  running.child.kill()
  expect(await running.ended).toBe(130)
})
