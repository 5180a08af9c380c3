import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { execFileSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { guest, needGuests } from './guests.js'

/** What workloads/vm/attack.c tries, a line each, and what it must be told. */
const answers = fs.readFileSync(new URL('attack-answers.txt', import.meta.url), 'utf8')
/** Unicorn knows no rings: these do what they do, to the guest alone. */
const privileged = /^(hlt|cli|in|out to the port of faults|a write of CR3|wrmsr): .*\n/gm

/** A root with a secret beside it, and ways to it that must not lead there. */
function rootWithSecret(): { folder: string; root: string } {
  const folder = temporaryFolder()
  const root = path.join(folder, 'root')
  for (const name of ['root', 'other', 'root/swap']) fs.mkdirSync(path.join(folder, name))
  for (const name of ['outside', 'other/outside']) fs.writeFileSync(path.join(folder, name), 'secret\n')
  for (const name of ['inside', 'swap/outside']) fs.writeFileSync(path.join(root, name), 'in\n')
  fs.symlinkSync('../outside', path.join(root, 'link'))
  fs.symlinkSync('../other', path.join(root, 'folder-link'))
  fs.symlinkSync('loop', path.join(root, 'loop'))
  execFileSync('mkfifo', [path.join(root, 'fifo')])
  return { folder, root }
}

function expectSecretKept(folder: string): void {
  expect(fs.readdirSync(folder).sort()).toEqual(['other', 'outside', 'root'])
  expect(fs.readdirSync(path.join(folder, 'other'))).toEqual(['outside'])
  for (const name of ['outside', 'other/outside'])
    expect(fs.readFileSync(path.join(folder, name), 'utf8')).toBe('secret\n')
}

test.for([
  ['kvm'],
  ['unicorn'],
] as const)('a guest that tries to leave its root, or gives wild pointers, gets the right errno and nothing else (%s)', ([
  engine,
], { skip }) => {
  needGuests(skip)
  const { folder, root } = rootWithSecret()
  const result = imago(['vm', 'run', '-q', '--engine', engine, '--root', root, guest('attack')])
  expect(result.code, result.stderr).toBe(0)
  const relevant = (text: string) => (engine === 'kvm' ? text : text.replace(privileged, ''))
  expect(relevant(result.stdout)).toBe(relevant(answers))
  expectSecretKept(folder)
})

/** Exchanges two names for ever. */
const exchange = `
import ctypes, os, sys
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None)
print("begun", flush=True)
while True:
    libc.renameat2(-100, b"swap", -100, b"folder-link", 2)
`

test('a folder that becomes a symlink while the guest opens what is in it leads nowhere else', async ({
  skip,
}) => {
  needGuests(skip)
  const { folder, root } = rootWithSecret()
  const other = spawn('python3', ['-c', exchange, root], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void other.kill('SIGKILL'))
  await once(other.stdout, 'data')
  const result = imago(['vm', 'run', '-q', '--root', root, guest('attack'), '3000'])
  expect(result).toMatchObject({ code: 0, stdout: '0 secrets\n' })
  expectSecretKept(folder)
})

test("below the root '/' a guest does not reach the monitor by /proc, nor devices", ({ skip }) => {
  needGuests(skip)
  const result = imago(['vm', 'run', '-q', '--root', '/', guest('attack'), 'proc'])
  expect(result.code, result.stderr).toBe(0)
  expect(result.stdout.trim().split('\n')).toEqual([
    'open("/proc/self/mem", O_RDWR): Permission denied',
    'open("/proc/self/maps", O_RDONLY): Permission denied',
    'open("/proc/self/environ", O_RDONLY): Permission denied',
    'open("/proc/self/root/etc/passwd", O_RDONLY): Symbolic link loop',
    'open("/proc/self/cwd/inside", O_RDONLY): Symbolic link loop',
    'open("/proc/self/fd/0", O_RDONLY): Symbolic link loop',
    'open("/proc/self/exe", O_RDONLY): Symbolic link loop',
    'open("/dev/null", O_RDWR): Permission denied',
  ])
})

test('a guest cannot change the image that its memory is mapped from', ({ skip }) => {
  needGuests(skip)
  const cwd = temporaryFolder()
  fs.symlinkSync('a.vm', path.join(cwd, 'a-link'))
  const saved = imago(['vm', 'run', '-q', '-o', 'a.vm', guest('attack'), 'image'], { cwd })
  expect(saved.code, saved.stderr).toBe(0)
  const restored = imago(['vm', 'restore', '-q', 'a.vm'], { cwd })
  expect(restored).toMatchObject({
    code: 0,
    stdout: [
      'open("a.vm", O_RDONLY) > 0: 1',
      'open("a.vm", O_WRONLY | O_TRUNC): Text file busy',
      'open("a-link", O_RDWR): Text file busy',
      'truncate("a.vm", 0): Text file busy',
      'unlink("a.vm"): 0\n',
    ].join('\n'),
  })
})

test('below a read-only root nothing is created, written or removed', ({ skip }) => {
  needGuests(skip)
  const root = temporaryFolder()
  const words = ['vm', 'run', '-q', '--trace', '--read-only', '--root', root, guest('caramba')]
  const result = imago(words, { cwd: root })
  expect(result.stderr).toContain('VM_APP - OPEN ./ay_caramba.txt 32834 511 - return -30')
  expect(fs.existsSync(path.join(root, 'ay_caramba.txt'))).toBe(false)
})

test('a guest with a file open for writing does not go on below a read-only root', ({ skip }) => {
  needGuests(skip)
  const cwd = temporaryFolder()
  expect(imago(['vm', 'run', '-q', '-o', 'a.vm', guest('caramba')], { cwd }).code).toBe(0)
  const refused = imago(['vm', 'restore', '-q', '--read-only', 'a.vm'], { cwd })
  expect(refused.code).toBe(4)
  expect(refused.stderr).toContain('the guest has ./ay_caramba.txt open for writing')
  expect(imago(['vm', 'restore', '-q', 'a.vm'], { cwd }).code).toBe(0)
})
