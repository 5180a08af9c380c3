/** How a program is run: where it is put, what runs it, and what a save of its own does. */
import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { packageRoot } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { guest, needGuests } from './guests.js'
import { start } from './running.js'

test('a static-PIE program runs on both engines', ({ skip }) => {
  needGuests(skip)
  const program = guest('hello-pie')
  for (const engine of ['kvm', 'unicorn'])
    expect(imago(['vm', 'run', '-q', '--engine', engine, program, 'a'])).toMatchObject({
      code: 7,
      stdout: `${program} a\n`,
    })
})

test.for([
  ['kvm', 'unicorn'],
  ['unicorn', 'kvm'],
] as const)('the system calls of everyday programs do what they do on Linux, and go on after a save (%s, then %s)', ([
  engine,
  next,
], { skip }) => {
  needGuests(skip)
  const program = guest('everyday')
  const options = { cwd: temporaryFolder(), input: '' }
  const native = spawnSync(program, { ...options, encoding: 'utf8' })
  expect(native).toMatchObject({ status: 3, stdout: expect.stringContaining('rmdir("room"): 0\n') })
  const whole = imago(['vm', 'run', '-q', '--engine', engine, program], options)
  expect(whole).toMatchObject({ code: 3, stdout: native.stdout })
  const words = ['vm', 'run', '-q', '--engine', engine, '-o', 'a.vm', program, 'save']
  const saved = imago(words, options)
  expect(saved.code, saved.stderr).toBe(0)
  const restored = imago(['vm', 'restore', '-q', '--engine', next, 'a.vm'], options)
  expect(restored.code, restored.stderr).toBe(3)
  expect(saved.stdout + restored.stdout).toBe(native.stdout)
})

test.for([
  ['kvm'],
  ['unicorn'],
] as const)('faults are as on Linux, and one that nobody catches is reported with the way back to it (%s)', ([
  engine,
], { skip }) => {
  needGuests(skip)
  const program = guest('fault')
  const { stdout } = spawnSync(program, [], { encoding: 'utf8' })
  const result = imago(['vm', 'run', '--engine', engine, program])
  expect(result).toMatchObject({ code: 128 + 11, stdout })
  expect(result.stderr).toMatch(
    /page fault at rip 0x4\w+: write to 0x10 \(not mapped\)\n.* instruction bytes: (\w\w ?){16}\n.* called from: 0x4\w+ 0x4\w+\n/,
  )
})

test('unknown system calls are counted, and a glibc program is said to choose its code by the CPU', ({
  skip,
}) => {
  needGuests(skip)
  const attack = imago(['vm', 'run', '--root', temporaryFolder(), guest('attack')])
  expect(attack.stderr).toContain('imago: unknown system call 99999 was made 1 time: ENOSYS\n')
  const busybox = '/usr/bin/busybox'
  skip(!fs.existsSync(busybox), 'busybox-static is not installed')
  const glibc = imago(['vm', 'run', busybox, 'echo', 'hello'])
  expect(glibc).toMatchObject({ code: 0, stdout: 'hello\n' })
  expect(glibc.stderr).toContain("a glibc program chooses its code by this host's CPU")
})

test('Ctrl-C ends a guest, and that is said', async ({ skip }) => {
  needGuests(skip)
  const running = start(temporaryFolder(), 'vm', 'run', guest('ticks'), '100000')
  await running.said('tick 0\n')
  running.child.kill('SIGINT')
  expect(await running.ended).toBe(130)
  expect(running.output()).toContain('interrupted: the guest is gone')
})

test('with --keep-running a guest goes on after its save, and so does its image', ({ skip }) => {
  needGuests(skip)
  const cwd = temporaryFolder()
  const file = path.join(cwd, 'ay_caramba.txt')
  const words = ['vm', 'run', '-q', '--keep-running', '--with-files', '-o', 'a.vm', guest('caramba')]
  expect(imago(words, { cwd })).toMatchObject({ code: 0, stdout: 'File written successfully.\n\0' })
  const whole = 'Hello World !!!\nBye Bye !!!\n'
  expect(fs.readFileSync(file, 'utf8')).toBe(whole)
  expect(imago(['vm', 'restore', '-q', 'a.vm'], { cwd }).code).toBe(4)
  expect(imago(['vm', 'restore', '-q', '--files=restore-content', 'a.vm'], { cwd }).code).toBe(0)
  expect(fs.readFileSync(file, 'utf8')).toBe(whole)
})

test('a root folder whose name is not ASCII is found, and again by its image', ({ skip }) => {
  needGuests(skip)
  const cwd = path.join(temporaryFolder(), 'Wurzel – 根')
  fs.mkdirSync(cwd)
  expect(imago(['vm', 'run', '-q', '-o', 'größe.vm', guest('caramba')], { cwd }).code).toBe(0)
  expect(imago(['vm', 'restore', '-q', path.join(cwd, 'größe.vm')]).code).toBe(0)
  const text = fs.readFileSync(path.join(cwd, 'ay_caramba.txt'), 'utf8')
  expect(text).toBe('Hello World !!!\nBye Bye !!!\n')
})

test('a guest has the umask of its monitor, and may change it', ({ skip }) => {
  needGuests(skip)
  const unshare = 'import ctypes; exit(ctypes.CDLL(None).unshare(0x200) != 0)' // CLONE_FS
  skip(spawnSync('python3', ['-c', unshare]).status !== 0, 'a thread may not have a umask of its own')
  const cwd = temporaryFolder()
  const command = `umask 027; exec ${path.join(packageRoot, 'imago')} vm run -q ${guest('umask')}`
  const result = spawnSync('sh', ['-c', command], { cwd, encoding: 'utf8' })
  expect(result).toMatchObject({ status: 0, stdout: 'umask 27\n' })
  const mode = (name: string) => (fs.statSync(path.join(cwd, name)).mode & 0o777).toString(8)
  expect(['before', 'folder', 'after'].map(mode)).toEqual(['640', '750', '666'])
})

test('where there is no /dev/kvm a guest runs on Unicorn, and is said to be slow', ({ skip }) => {
  needGuests(skip)
  const program = guest('hello')
  const bare = 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3'
  const without = (command: string) =>
    spawnSync('unshare', ['-m', 'sh', '-c', `${bare} && ${command}`], { encoding: 'utf8' })
  skip(without('true').status !== 0, 'no mount namespace can be made')
  const run = without(`${path.join(packageRoot, 'imago')} vm run ${program} a`)
  expect(run).toMatchObject({ status: 7, stdout: `${program} a\n` })
  expect(run.stderr).toBe('imago: without KVM: the guest is emulated, and slow\n')
})
