/** What lies outside of a program, in the kernel, is named before anything is written. */

import fs from 'node:fs'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { execFileSync } from '../../helpers/bounded.js'
import { canBeFrozen, imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { compile, read, start, until } from './started.js'

/** Runs C statements in a program that then waits for `go` and ends with 9; returns its pid, folder and what it said first. */
async function program(headers: readonly string[], statements: string) {
  const folder = temporaryFolder()
  const source = `
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>
${headers.map(name => `#include <${name}>`).join('\n')}
int main(void) {
  ${statements}
  fflush(stdout);
  while (access("go", F_OK) != 0) usleep(10000);
  return 9;
}`
  const child = start(folder, ['run', '--', compile(folder, 'program', source)], 'out')
  await until(() => read(folder, 'out').endsWith('\n'))
  await canBeFrozen(child.pid!)
  return { pid: String(child.pid), folder, image: path.join(folder, 'image'), said: read(folder, 'out') }
}

/** A file of /proc, empty when its process has just gone. */
function readProc(name: string): string {
  try {
    return fs.readFileSync(`/proc/${name}`, 'utf8')
  } catch {
    return ''
  }
}

async function expectLosses(pid: string, folder: string, losses: readonly (string | RegExp)[]) {
  const words = ['checkpoint', pid, '-o', path.join(folder, 'image')]
  const refused = imago(words)
  expect(refused.code).toBe(4)
  for (const loss of losses) expect(refused.stderr).toMatch(loss)
  expect(fs.readdirSync(folder).filter(name => name.includes('image'))).toEqual([])
  expect(imago([...words, '--force']).code).toBe(0)
}

test('System V message queues, semaphores and shared memory that the program used', async () => {
  const { pid, folder, said } = await program(
    ['sys/ipc.h', 'sys/msg.h', 'sys/sem.h', 'sys/shm.h'],
    `struct { long type; char text[4]; } message = {1, "abc"};
  int queue = msgget(IPC_PRIVATE, 0600), unused = msgget(IPC_PRIVATE, 0600);
  int set = semget(IPC_PRIVATE, 3, 0600), memory = shmget(IPC_PRIVATE, 4096, 0600);
  struct sembuf up = {2, 1, 0};
  msgsnd(queue, &message, sizeof message.text, 0);
  semop(set, &up, 1);
  printf("%d %d %d %d\\n", queue, set, memory, unused);`,
  )
  const [queue, set, memory, unused] = said.split(/\s/)
  onTestFinished(() => {
    execFileSync('ipcrm', ['-q', queue!, '-q', unused!, '-s', set!, '-m', memory!])
  })
  await expectLosses(pid, folder, [
    `System V message queue: id ${queue}\n`,
    `System V semaphores: id ${set}\n`,
    `System V shared memory of its making: id ${memory}\n`,
  ])
})

test('a POSIX message queue is named, not taken for a deleted file', async () => {
  const name = `/imago-test-${process.pid}`
  const { pid, folder } = await program(
    ['mqueue.h', 'fcntl.h'],
    `printf("%d\\n", mq_open("${name}", O_RDWR | O_CREAT, 0600, 0)); mq_unlink("${name}");`,
  )
  await expectLosses(pid, folder, [/a POSIX message queue: descriptor 3/])
})

test('a program with a filter of system calls is refused, not ended by a call that imago makes in it', async ({
  skip,
}) => {
  const { pid, folder, said } = await program(
    ['stddef.h', 'linux/filter.h', 'linux/seccomp.h', 'sys/prctl.h', 'sys/syscall.h'],
    `struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ, SYS_timer_create, 1, 0), BPF_JUMP(BPF_JMP | BPF_JEQ, SYS_unshare, 0, 1),
      BPF_STMT(BPF_RET, SECCOMP_RET_KILL_PROCESS), BPF_STMT(BPF_RET, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog all = {sizeof filter / sizeof *filter, filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    printf("%d\\n", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all));`,
  )
  skip(said !== '0\n', 'this kernel has no filters of system calls')
  await expectLosses(pid, folder, [/seccomp filter/])
})

test('a namespace that the program went to by itself', async ({ skip }) => {
  const { pid, folder, said } = await program(
    ['sched.h'],
    'printf("%d\\n", unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWNET));',
  )
  skip(said !== '0\n', 'no user namespaces here')
  await expectLosses(pid, folder, [/namespace of its own: net$/m, /: uts$/m, /: user$/m])
})

test.for([
  'by itself',
  'before it was executed',
])('a program that left its pid namespace for its children %s is refused, and its next child lives', async (when, {
  skip,
}) => {
  const folder = temporaryFolder()
  const file = compile(
    folder,
    'program',
    `#define _GNU_SOURCE
    #include <fcntl.h>
    #include <sched.h>
    #include <sys/wait.h>
    #include <unistd.h>
    int main(int argc, char **argv) {
      if (argc < 3 && unshare(CLONE_NEWPID) != 0) return 3;
      if (argc == 2 && argv[1][0] == 'b') {
        char *const words[] = {argv[0], argv[1], "again", 0};
        execv(argv[0], words);
      }
      close(open("ready", O_CREAT | O_WRONLY, 0600));
      while (access("go", F_OK) != 0) usleep(5000);
      const pid_t child = fork();
      if (child == 0) _exit(getpid() == 1 ? 7 : 8);
      int status = 0;
      waitpid(child, &status, 0);
      return WEXITSTATUS(status);
    }`,
  )
  const child = start(folder, ['run', '--', file, ...(when === 'by itself' ? [] : ['before'])], 'out')
  await until(() => child.exitCode !== null || fs.existsSync(path.join(folder, 'ready')))
  skip(child.exitCode === 3, 'needs root for a pid namespace')
  expect(imago(['checkpoint', String(child.pid), '-o', path.join(folder, 'image')])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('it has left its pid namespace for its children'),
  })
  fs.writeFileSync(path.join(folder, 'go'), '')
  await until(() => child.exitCode !== null)
  expect(child.exitCode).toBe(7)
})

test('a program in namespaces it was started in is kept, also a second time', async ({ skip }) => {
  const folder = temporaryFolder()
  const source =
    '#include <unistd.h>\nint main(void) { while (access("go", F_OK) != 0) usleep(5000); return 9; }'
  const file = compile(folder, 'program', source)
  const child = start(folder, ['run', '--', 'unshare', '-Urn', file], 'out')
  await until(() => child.exitCode !== null || readProc(`${child.pid}/comm`) === 'program\n')
  skip(child.exitCode !== null, 'no user namespaces here')
  await canBeFrozen(child.pid!)
  const image = path.join(folder, 'image')
  expect(imago(['checkpoint', String(child.pid), '-o', image, '--stop'])).toMatchObject({ code: 0 })
  const restored = start(folder, ['restore', '--pid', 'new', image], 'out')
  let pid = ''
  await until(() => {
    pid = readProc(`${restored.pid}/task/${restored.pid}/children`).trim()
    const caught = /^SigCgt:\s*(\w+)/m.exec(readProc(`${pid}/status`))?.[1] ?? '0'
    return readProc(`${pid}/comm`) === 'program\n' && (BigInt(`0x${caught}`) & 0x800n) !== 0n // SIGUSR2
  })
  expect(imago(['checkpoint', pid, '-o', `${image}2`, '--stop'])).toMatchObject({ code: 0 })
})
