/** A program under `imago run` finds what it would find without: descriptors, limits, signals; and its terminal as it set it. */

import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { packageRoot } from '../../../src/lib/parts.js'
import { execFileSync, spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { compile } from './started.js'

const launcher = path.join(packageRoot, 'imago')

/** What a shell command sees of descriptors, limits and signals, directly and below `imago run`. */
const look =
  'for f in /proc/$$/fd/*; do [ -e $f ] && printf "%s " $f | sed "s,.*/,,"; done; ulimit -Sn; ulimit -Hn; grep SigIgn /proc/$$/status; env | grep IMAGO_; read line <&7; echo $line'

test.for([
  ['it becomes the program', []],
  ['it stays with the program', ['--interval', '1000']],
] as const)('inherited descriptors and limits reach the program: %s', ([, options]) => {
  const folder = temporaryFolder()
  fs.writeFileSync(path.join(folder, 'seven'), 'from seven\n')
  const with7 = (words: string) =>
    execFileSync('bash', ['-c', `ulimit -Sn 300; exec 7<seven 12>twelve; ${words}`], {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, LOOK: look },
    })
  const plain = with7('sh -c "$LOOK"')
  expect(plain).toContain('300\n')
  expect(plain).toContain('from seven')
  expect(with7(`'${launcher}' run ${options.join(' ')} -- sh -c "$LOOK"`)).toBe(plain)
})

test('a setuid program is refused with the reason', ({ skip }) => {
  skip(process.getuid?.() !== 0, 'needs root to make a program of another user')
  const file = compile(temporaryFolder(), 'other', 'int main(void) { return 0; }')
  fs.chownSync(file, 65534, 65534)
  fs.chmodSync(file, 0o4755)
  expect(imago(['run', '--', file])).toMatchObject({
    code: 5,
    stderr: expect.stringContaining('a setuid program ignores LD_PRELOAD'),
  })
})

/** Of python: a child on a pseudo terminal of its own, and what it says there up to a word. */
const terminals = `
import os, pty, subprocess, sys, termios, time
def on_terminal(*words):
    controller, terminal = pty.openpty()
    child = subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    return child, controller, terminal
def read_until(controller, word):
    text = b''
    while word not in text: text += os.read(controller, 1000)
    return text
`

/** On a pseudo terminal: a program switches echo off, is frozen, ended, and restored on a terminal with echo. */
const terminalTest = `${terminals}
launcher, program, image = sys.argv[1:]
child, controller, terminal = on_terminal(launcher, 'run', '--', program)
read_until(controller, b'ready')
subprocess.run([launcher, 'checkpoint', str(child.pid), '-o', image, '--stop'], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
child.wait()
child, controller, terminal = on_terminal(launcher, 'restore', image)
echoes = lambda: bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
assert echoes()
for i in range(3000):
    if not echoes(): break
    time.sleep(0.01)
os.write(controller, b'secret\\n')
answer = read_until(controller, b'end')
sys.exit(0 if b'got secret, echo off' in answer and child.wait() == 3 else 'wrong: ' + repr(answer))
`

test("terminal attributes are the program's again on the terminal of the restorer", ({ skip }) => {
  skip(spawnSync('python3', ['-V']).status !== 0, 'python3 is not installed')
  const folder = temporaryFolder()
  const program = compile(
    folder,
    'silent',
    `
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
int main(void) {
  struct termios mode;
  char line[100] = "";
  tcgetattr(0, &mode);
  mode.c_lflag &= ~ECHO;
  tcsetattr(0, TCSANOW, &mode);
  write(1, "ready\\n", 6);
  fgets(line, sizeof line, stdin);
  line[strcspn(line, "\\n")] = 0;
  tcgetattr(0, &mode);
  printf("got %s, echo %s\\nend\\n", line, mode.c_lflag & ECHO ? "on" : "off");
  return 3;
}`,
  )
  const run = spawnSync('python3', ['-c', terminalTest, launcher, program, path.join(folder, 'image')], {
    encoding: 'utf8',
    timeout: 120_000,
  })
  expect(run).toMatchObject({ status: 0, stderr: '' })
})

/** On a pseudo terminal: an interactive shell keeps a variable in another life. */
const shellTest = `${terminals}
launcher, image = sys.argv[1:]
def answer(controller, line, word):
    os.write(controller, line)
    read_until(controller, word)
os.environ['HISTFILE'] = '/dev/null'
shell, controller, _ = on_terminal(launcher, 'run', '--', 'bash', '--norc', '--noprofile', '-i')
answer(controller, b'number=6; echo is $((number * 2))\\n', b'is 12')
subprocess.run([launcher, 'checkpoint', str(shell.pid), '-o', image, '--stop'], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
shell.wait()
shell, controller, _ = on_terminal(launcher, 'restore', image)
answer(controller, b'echo is $((number * 7))\\n', b'is 42')
os.write(controller, b'exit 5\\n')
sys.exit(0 if shell.wait() == 5 else 'another exit code')
`

test('an interactive bash, which takes SIGUSR2 for itself, goes on at its prompt on another terminal', ({
  skip,
}) => {
  skip(spawnSync('python3', ['-V']).status !== 0, 'python3 is not installed')
  const image = path.join(temporaryFolder(), 'image')
  const run = spawnSync('python3', ['-c', shellTest, launcher, image], { encoding: 'utf8', timeout: 120_000 })
  expect(run).toMatchObject({ status: 0, stderr: '' })
})
