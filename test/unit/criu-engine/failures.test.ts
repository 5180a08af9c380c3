import { describe, expect, test } from 'vitest'
import { explain, failures } from '../../../src/engines/criu/failures.js'
import { ExitCode } from '../../../src/lib/errors.js'

/** What criu 4.1 and 4.2 really wrote when these things happened, and what must become of it. */
const cases: ReadonlyArray<readonly [log: string, sentence: string, exitCode: number, cure?: string]> = [
  [
    'CRIU needs to have the CAP_SYS_ADMIN or the CAP_CHECKPOINT_RESTORE capability: \nsetcap cap_checkpoint_restore+eip /usr/sbin/criu',
    'criu may not do this as this user',
    ExitCode.host,
    '--engine preload',
  ],
  [
    'Error (criu/net.c:4121): net: Unable create a network namespace: Operation not permitted\nError (criu/kerndat.c:1922): kerndat_has_nftables_concat failed when initializing kerndat.',
    'root here lacks capabilities',
    ExitCode.host,
  ],
  [
    "Error (criu/sockets.c:628): sockets: Can't get 1:16 opt: Operation not supported\nError (criu/cr-dump.c:1681): Dump files (pid: 22244) failed with -1",
    'too old for this kernel: it cannot dump TCP sockets',
    ExitCode.host,
    'criu-4.2',
  ],
  [
    "pie: 22796: Error (criu/pie/parasite.c:588): send_fds failed (-22)\nError (criu/parasite-syscall.c:280): Can't retrieve FDs from socket",
    'io_uring',
    ExitCode.loss,
    'UV_USE_IO_URING=0',
  ],
  [
    "Error (criu/cr-restore.c:1230): Can't fork for 22926: File exists\nError (criu/cr-restore.c:2320): Restoring FAILED.",
    'process id 22926 is taken on this host',
    ExitCode.host,
  ],
  [
    "27181: Error (criu/files-reg.c:2175): File tmp/prog has bad size 762546 (expect 762544)\n 27181: Error (criu/mem.c:1467): `- Can't open vma",
    '/tmp/prog has 762546 bytes now, and had 762544 at the checkpoint',
    ExitCode.host,
  ],
  [
    "12623: Error (criu/files-reg.c:2353): Can't open file w/out.txt on restore: No such file or directory",
    '/w/out.txt is not on this host',
    ExitCode.host,
  ],
  [
    'Error (criu/cr-restore.c:854): Core march mismatch 3',
    'another processor architecture',
    ExitCode.host,
    'imago retarget',
  ],
  [
    'Error (criu/tty.c:410): tty: Found slave peer index 0 without correspond master peer',
    'a terminal whose other end is outside of its tree',
    ExitCode.loss,
    'setsid',
  ],
  [
    'sh: 1: iptables: not found\nError (criu/util.c:657): exited, status=127\nError (criu/netfilter.c:105): Iptables configuration failed',
    'hold back the packets',
    ExitCode.host,
    'nf_tables',
  ],
  [
    'Warn  (compel/src/lib/infect.c:133): Unable to interrupt task: 999999 (No such process)',
    'process 999999 ended, or there never was one',
    ExitCode.peer,
  ],
]

describe('what a log of criu means', () => {
  test.each(cases)('%j becomes one clear sentence', (log, sentence, exitCode, cure) => {
    const noise =
      "Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n"
    const error = explain('cannot restore x', `${noise}${log}\nError (criu/x.c:1): FAILED.`)
    expect(error.message).toContain(sentence)
    expect(error.message).not.toMatch(/\$\d|\?$/)
    expect(error.exitCode).toBe(exitCode)
    expect(error.details.hint ?? '').toContain(cure ?? '')
  })

  test('an unknown failure shows what criu said, without the lines it prints on every run', () => {
    const error = explain(
      'cannot restore x',
      "Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n(00.1) Error (criu/new.c:7): The moon is in the wrong phase",
    )
    expect(error.details.found).toBe('The moon is in the wrong phase')
  })

  test('no pattern takes a log that only says that it failed', () => {
    for (const { pattern } of failures)
      expect(
        pattern.test(
          'Error (criu/cr-dump.c:2111): Dumping FAILED.\nError (criu/cr-restore.c:2320): Restoring FAILED.',
        ),
      ).toBe(false)
  })
})
