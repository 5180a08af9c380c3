import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { nativePart } from '../../../src/engines/preload/native-parts.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { compile, read, start, until } from './started.js'

/** Counts to 40 on stdout, slowly, and ends with 7. */
const counter = `
#include <stdio.h>
#include <unistd.h>
int main(void) { for (int i = 0; i < 40; i++) { printf("%d\\n", i); fflush(stdout); usleep(100000); } return 7; }
`
const all = Array.from({ length: 40 }, (_, i) => `${i}\n`).join('')

describe('run, checkpoint, restore', () => {
  test.for([
    [],
    ['--compress'],
    ['--blocking'],
  ])('a program goes on where it was, with its exit code %j', async options => {
    const folder = temporaryFolder()
    const child = start(folder, ['run', '--', compile(folder, 'counter', counter)], 'out')
    await until(() => read(folder, 'out').includes('3\n'))
    const image = path.join(folder, 'image')
    const frozen = imago(['checkpoint', String(child.pid), '-o', image, '--stop', '--json', ...options])
    expect(frozen).toMatchObject({ code: 0 })
    expect(JSON.parse(frozen.stdout)).toMatchObject({ path: image, pauseMs: expect.any(Number) })
    await until(() => child.signalCode === 'SIGKILL')
    expect(read(folder, 'out')).not.toBe(all)
    expect(imago(['restore', image]).code).toBe(7)
    expect(read(folder, 'out')).toBe(all)
  })

  test('a compressed image is read like a plain one, and made one by convert', async () => {
    const folder = temporaryFolder()
    const child = start(folder, ['run', '--', compile(folder, 'counter', counter)], 'out')
    await until(() => read(folder, 'out').includes('3\n'))
    const [compressed, plain] = [path.join(folder, 'compressed'), path.join(folder, 'plain')]
    const frozen = imago(['checkpoint', String(child.pid), '-o', compressed, '--stop', '--compress'])
    expect(frozen).toMatchObject({ code: 0 })
    await until(() => child.signalCode === 'SIGKILL')
    expect(imago(['inspect', compressed]).stdout).toContain('counter')
    expect(imago(['verify', compressed]).stdout).toContain('sound')
    expect(imago(['convert', compressed, '--to', 'core', '-o', plain])).toMatchObject({ code: 0 })
    expect(fs.readFileSync(plain).subarray(0, 4).toString('latin1')).toBe('\x7fELF')
    expect(fs.statSync(plain).blocks * 512).toBeLessThan(fs.statSync(plain).size)
    expect(imago(['diff', compressed, plain]).stdout).toContain('no difference')
    expect(imago(['restore', plain]).code).toBe(7)
    expect(read(folder, 'out')).toBe(all)
  })

  test('zeros are not stored, nor by a program that was restored lazily', async () => {
    const folder = temporaryFolder()
    const source = fs.readFileSync(path.join(packageRoot, 'workloads/bench/memory.c'), 'utf8')
    const beat = path.join(folder, 'beat')
    const program = compile(folder, 'memory', source)
    const child = start(folder, ['run', '--', program, '32', 'zero', beat], 'out')
    await until(
      () =>
        fs.existsSync(beat) &&
        fs
          .readFileSync(beat)
          .subarray(0, 8)
          .some(byte => byte !== 0),
    )
    const images = ['first', 'second'].map(name => path.join(folder, name)) as [string, string]
    expect(imago(['checkpoint', String(child.pid), '-o', images[0], '--stop'])).toMatchObject({ code: 0 })
    const restored = imago(['restore', '-d', images[0]])
    expect(restored.code, restored.stderr).toBe(0)
    const again = imago(['checkpoint', restored.stdout.trim(), '-o', images[1], '--stop'])
    expect(again.code, again.stderr).toBe(0)
    const [first, second] = images.map(image => fs.statSync(image).blocks * 512) as [number, number]
    expect(first).toBeLessThan(8 << 20) // a twentieth of 32 MiB, and the libraries
    expect(second).toBeLessThan(first + (1 << 20))
    expect(imago(['verify', images[1]]).stdout).toContain('sound')
  })

  test('a place where no image can be is refused in words, and the program goes on', async () => {
    const folder = temporaryFolder()
    const waiting =
      '#include <unistd.h>\nint main(void) { write(1, "up", 2); while (access("go", F_OK) != 0) usleep(5000); return 7; }'
    const program = compile(folder, 'waiting', waiting)
    const child = start(folder, ['run', '--', program], 'out')
    await until(() => read(folder, 'out') === 'up')
    const missing = path.join(folder, 'no', 'image')
    for (const [output, code, words] of [
      [missing, 2, /no such folder for the image/],
      [folder, 2, /a folder cannot be replaced/],
      ['', 2, /needs a name/],
      ['two\nlines', 2, /newline/],
      ['/proc/image', 1, /cannot create the image: no such file or directory/],
    ] as const) {
      const refused = imago(['checkpoint', String(child.pid), '-o', output])
      expect(refused).toMatchObject({ code, stderr: expect.stringMatching(words) })
    }
    expect(imago(['run', '-o', missing, '--', program])).toMatchObject({ code: 2, stdout: '' })
    fs.writeFileSync(path.join(folder, 'go'), '')
    await until(() => child.exitCode === 7)
  })

  test.for([
    ['goes on at once', []],
    ['stands', ['--blocking']],
  ] as const)('a file opened by its path only has no position in the image of a program that %s', async ([
    ,
    options,
  ]) => {
    const folder = temporaryFolder()
    const source = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>
int main(int count, char **words) { if (count == 1 && open(words[0], O_PATH) >= 0) write(1, "up", 2); return pause(); }`
    const child = start(folder, ['run', '--', compile(folder, 'pathonly', source)], 'out')
    await until(() => read(folder, 'out') === 'up')
    const image = path.join(folder, 'image')
    expect(imago(['checkpoint', String(child.pid), '-o', image, ...options])).toMatchObject({ code: 0 })
    const { descriptions } = JSON.parse(imago(['inspect', image, '--json']).stdout)
    const files: Array<{ path: string; offset: string }> = Object.values(descriptions)
    expect(files.filter(file => file.path.endsWith('pathonly')).map(file => file.offset)).toEqual(['0x0'])
  })

  test('images at intervals, each restorable', async () => {
    const folder = temporaryFolder()
    const program = compile(folder, 'counter', counter)
    const child = start(folder, ['run', '-o', 'job-%n', '--interval', '0.5', '--', program], 'out')
    await until(() => fs.existsSync(path.join(folder, 'job-3')))
    child.kill('SIGTERM')
    await until(() => child.exitCode !== null)
    expect(child.exitCode).toBe(128 + 15)
    expect(imago(['restore', '--files', 'truncate', path.join(folder, 'job-2')]).code).toBe(7)
    expect(read(folder, 'out').replace(/^imago:.*\n/gm, '')).toBe(all)
  })

  test('what cannot be kept is named, one line each, before anything is written', async () => {
    const folder = temporaryFolder()
    const source = `
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
  int messages[2], passing[2];
  socketpair(AF_UNIX, SOCK_DGRAM, 0, messages);
  socketpair(AF_UNIX, SOCK_STREAM, 0, passing);
  char control[CMSG_SPACE(sizeof(int))];
  struct iovec bytes = {"x", 1};
  struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  *CMSG_FIRSTHDR(&message) = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  *(int *)CMSG_DATA(CMSG_FIRSTHDR(&message)) = 1;
  sendmsg(passing[0], &message, 0); /* a descriptor is under way */
  inotify_init();
  if (fork() == 0) for (int i = 0; i < 300; i++) usleep(100000);
  write(1, "up\\n", 3);
  while (access("go", F_OK) != 0) usleep(10000);
  return 9;
}`
    const child = start(folder, ['run', '--', compile(folder, 'connected', source)], 'out')
    await until(() => read(folder, 'out').includes('up'))
    const image = path.join(folder, 'image')
    const words = ['checkpoint', String(child.pid), '-o', image]
    const refused = imago(words)
    expect(refused.code).toBe(4)
    for (const loss of [
      'child processes: ',
      'a socket: descriptor 3',
      'a socket: descriptor 4',
      'a socket: descriptor 5',
      'a socket: descriptor 6',
      'an inotify watch',
    ])
      expect(refused.stderr).toContain(loss)
    expect(fs.readdirSync(folder).filter(name => name.includes('image'))).toEqual([])
    expect(imago([...words, '--force', '--stop']).code).toBe(0)
    fs.writeFileSync(path.join(folder, 'go'), '')
    const restored = imago(['restore', image])
    expect(restored.code).toBe(9)
    expect(restored.stderr).toContain('/dev/null')
    spawnSync('sh', [
      '-c',
      `for p in /proc/[0-9]*; do [ "$(readlink $p/exe)" = ${folder}/connected ] && kill -9 \${p#/proc/}; done`,
    ])
  })

  test.for([
    ['keep', 'one\ntwo\nlater\nthree\n'],
    ['truncate', 'one\ntwo\nthree\n'],
    ['restore', 'one\ntwo\nthree\n'],
  ] as const)('a file that grew and was changed, with --files %s', async ([policy, expected]) => {
    const folder = temporaryFolder()
    const source = `
#include <fcntl.h>
#include <unistd.h>
int main(void) {
  int log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0600);
  write(log, "one\\ntwo\\n", 8);
  while (access("go", F_OK) != 0) usleep(5000);
  write(log, "three\\n", 6);
  return 0;
}`
    const child = start(folder, ['run', '--', compile(folder, 'logger', source)], 'out')
    await until(() => fs.existsSync(path.join(folder, 'log')) && read(folder, 'log').includes('two'))
    expect(imago(['checkpoint', String(child.pid), '-o', path.join(folder, 'image'), '--stop']).code).toBe(0)
    fs.writeFileSync(
      path.join(folder, 'log'),
      policy === 'restore' ? 'ruined and longer' : 'one\ntwo\nlater\n',
    )
    fs.writeFileSync(path.join(folder, 'go'), '')
    expect(imago(['restore', '--files', policy, path.join(folder, 'image')]).code).toBe(0)
    expect(read(folder, 'log')).toBe(expected)
  })

  test('programs that cannot carry the library: a clear message, exit code 5', () => {
    const folder = temporaryFolder()
    const fixed = compile(folder, 'fixed', 'int main(void) { return 0; }', '-static')
    expect(imago(['run', '--', fixed])).toMatchObject({
      code: 5,
      stderr: expect.stringContaining('statically linked'),
    })
    expect(imago(['checkpoint', String(process.pid)])).toMatchObject({
      code: 5,
      stderr: expect.stringContaining('no checkpointer inside'),
    })
  })
})

test('a plain user freezes and restores, without root', async ({ skip }) => {
  skip(process.getuid?.() !== 0, 'needs root to become another user')
  const folder = fs.mkdtempSync('/tmp/imago-plain-')
  onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }))
  for (const part of ['libckpt.so', 'myrestart']) {
    fs.copyFileSync(nativePart(part), path.join(folder, part))
    fs.chmodSync(path.join(folder, part), 0o755)
  }
  fs.chmodSync(compile(folder, 'counter', counter), 0o755)
  fs.chmodSync(folder, 0o777)
  const user = { uid: 65534, gid: 65534, cwd: folder } as const
  const out = fs.openSync(path.join(folder, 'out'), 'a', 0o666)
  fs.fchmodSync(out, 0o666)
  const child = spawn('./counter', {
    ...user,
    stdio: ['ignore', out, out],
    env: { LD_PRELOAD: path.join(folder, 'libckpt.so') },
  })
  await until(() => read(folder, 'out').includes('2\n'))
  child.kill('SIGUSR2')
  await until(() => fs.existsSync(path.join(folder, 'myckpt')))
  child.kill('SIGKILL')
  await until(() => child.signalCode !== null)
  const restored = spawnSync('./myrestart', ['--files', 'truncate', 'myckpt'], { ...user, encoding: 'utf8' })
  expect(restored).toMatchObject({ status: 7, stderr: expect.stringContaining('its process id') })
  expect(read(folder, 'out')).toBe(all)
})
