/** A restored program belongs to whoever restored it: the shell's Ctrl-Z, fg and Ctrl-C mean it. */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { nativePart } from '../../../src/engines/preload/native-parts.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { compile, read, start, until } from './started.js'

const launcher = path.join(packageRoot, 'imago')

/** Says that it ticks, for ever. */
const ticking = `
#include <unistd.h>
int main(void) {
  for (;;) {
    write(1, "tick\\n", 5);
    usleep(20000);
  }
}`

/** An interactive shell on a pseudo terminal, which restores the image by the words it is given. Ends with the first wait that never ends. */
const shellTest = `
import fcntl, os, pty, subprocess, sys, termios
command = ' '.join(sys.argv[1:])
controller, terminal = pty.openpty()
def own_terminal():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
shell = subprocess.Popen(['bash', '--norc', '--noprofile', '-i'], stdin=terminal, stdout=terminal, stderr=terminal,
                         preexec_fn=own_terminal, env={**os.environ, 'PS1': 'ready> '})
os.close(terminal)
text = b''
def read_until(word):
    global text
    while word not in text: text += os.read(controller, 1000)
    text = text[text.index(word) + len(word):]
def do(text): os.write(controller, text.encode())
read_until(b'ready>')
do(command + '\\n')
read_until(b'tick')
do('\\x1a')
read_until(b'Stopped')
read_until(b'ready>')
do('fg\\n')
read_until(b'tick')
do('\\x03')
read_until(b'ready>')
do('echo it ended with $?\\n')
read_until(b'it ended with 130')
shell.kill()
`

test.for([
  ['imago restore', [launcher, 'restore']],
  ['myrestart', [nativePart('myrestart')]],
  ['myrestart --pid new', [nativePart('myrestart'), '--pid', 'new']],
  ['myrestart --pid namespace', [nativePart('myrestart'), '--pid', 'namespace']],
] as const)('in a shell, %s is stopped, continued and ended as the program would be', ([name, words], {
  skip,
}) => {
  skip(spawnSync('python3', ['-V']).status !== 0, 'python3 is not installed')
  skip(
    name.includes('namespace') && spawnSync('unshare', ['-Ur', 'true']).status !== 0,
    'no user namespaces here',
  )
  const folder = temporaryFolder()
  const program = compile(folder, 'ticking', ticking)
  const image = path.join(folder, 'image')
  // Started on a terminal, so that its output goes to the restorer's.
  const begun = spawnSync(
    'python3',
    [
      '-c',
      `
import os, pty, subprocess, sys
controller, terminal = pty.openpty()
child = subprocess.Popen([sys.argv[1], 'run', '--', sys.argv[2]], stdin=terminal, stdout=terminal, stderr=terminal)
while b'tick' not in os.read(controller, 1000): pass
sys.exit(subprocess.run([sys.argv[1], 'checkpoint', str(child.pid), '-o', sys.argv[3], '--stop'], stdout=subprocess.DEVNULL).returncode)
`,
      launcher,
      program,
      image,
    ],
    { encoding: 'utf8', timeout: 60_000 },
  )
  expect(begun).toMatchObject({ status: 0 })
  const run = spawnSync('python3', ['-c', shellTest, ...words, image], { encoding: 'utf8', timeout: 40_000 })
  expect(run).toMatchObject({ status: 0, stderr: '' })
})

test('without a terminal a program that led its process group leads one again', async () => {
  const folder = temporaryFolder()
  const source = `
#include <stdio.h>
#include <unistd.h>
int main(void) {
  setpgid(0, 0);
  write(1, "up\\n", 3);
  while (access("go", F_OK) != 0) usleep(5000);
  puts(getpgrp() == getpid() ? "leads" : "follows");
  return 0;
}`
  const child = start(folder, ['run', '--', compile(folder, 'leader', source)], 'out')
  await until(() => read(folder, 'out').includes('up'))
  const image = path.join(folder, 'image')
  expect(imago(['checkpoint', String(child.pid), '-o', image, '--stop'])).toMatchObject({ code: 0 })
  fs.writeFileSync(path.join(folder, 'go'), '')
  for (const pid of ['auto', 'new']) {
    const words = ['-w', launcher, 'restore', '--files', 'truncate', '--pid', pid, image]
    expect(spawnSync('setsid', words, { encoding: 'utf8' })).toMatchObject({ status: 0 })
    expect(read(folder, 'out')).toBe('up\nleads\n')
  }
})

/** R, S, T …; nothing when there is no such process. */
const stateOf = (pid: number) => /\) (\w)/.exec(read(`/proc/${pid}`, 'stat'))?.[1]

test('who stops and continues only the program itself does so to what stands for it, too', async ({
  skip,
}) => {
  const folder = temporaryFolder()
  const first = start(folder, ['run', '--', compile(folder, 'ticking', ticking)], 'out')
  await until(() => read(folder, 'out').includes('tick'))
  const image = path.join(folder, 'image')
  expect(imago(['checkpoint', String(first.pid), '-o', image, '--stop'])).toMatchObject({ code: 0 })
  await until(() => first.signalCode !== null) // its id is free
  // As a shell does: in a process group of its own. One that nobody of the session looks after is not stopped by SIGTSTP.
  const own = compile(
    folder,
    'own',
    '#include <unistd.h>\nint main(int count, char **words) { return count > 1 && setpgid(0, 0) == 0 ? execv(words[1], words + 1) : 2; }',
  )
  const standIn = spawn(own, [nativePart('myrestart'), image], { stdio: 'ignore' })
  onTestFinished(() => void standIn.kill('SIGKILL'))
  const pid = standIn.pid!
  const program = () => Number(read(`/proc/${pid}/task/${pid}`, 'children').split(' ')[0])
  const seen = read(folder, 'out').length
  await until(() => read(folder, 'out').length > seen)
  skip(program() === 0, 'this user cannot give a program its old id, so nothing stands for it')
  for (let round = 0; round < 3; round++) {
    const inner = program()
    process.kill(inner, 'SIGTSTP')
    await until(() => stateOf(inner) === 'T' && stateOf(pid) === 'T')
    process.kill(inner, 'SIGCONT')
    await until(() => stateOf(inner) !== 'T' && stateOf(pid) !== 'T')
    await until(
      () => program() === inner && read(`/proc/${pid}/task/${pid}`, 'children').split(' ').length <= 2,
    )
  }
  process.kill(program(), 'SIGTERM')
  await until(() => standIn.signalCode === 'SIGTERM')
})
