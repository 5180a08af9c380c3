/**
 * What criu's log means: known failures, each with one sentence and the cure. `explain` finds the first line of the
 * table that matches; the patterns are messages of CRIU 3.17 to 4.2.
 */
import { HostError, type ImagoError, LossError, PeerError, UnreadableError } from '../../lib/errors.js'

interface Failure {
  readonly pattern: RegExp
  /** $1, $2 … stand for the groups of the pattern. */
  readonly sentence: string
  readonly cure?: string
  /** Whose fault it is decides the exit code: this host's, the image's, or what the program uses. */
  readonly kind: 'host' | 'image' | 'unsupported' | 'other'
}

export const failures: readonly Failure[] = [
  // Rights and kernel
  {
    pattern: /needs to have the CAP_SYS_ADMIN or the CAP_CHECKPOINT_RESTORE capability/,
    sentence: 'criu may not do this as this user',
    cure: "run as root, or use '--engine preload', which needs no rights",
    kind: 'host',
  },
  {
    pattern: /kerndat.*Operation not permitted|Unable create a network namespace: Operation not permitted/,
    sentence: 'root here lacks capabilities that criu needs (CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_NET_ADMIN)',
    cure: "give the container these capabilities, or use '--engine preload'",
    kind: 'host',
  },
  {
    pattern: /Can't get 1:(?:16|34) opt: Operation not supported/,
    sentence: 'this criu is too old for this kernel: it cannot dump TCP sockets on Linux 6.16 and later',
    cure: 'npm run setup -- criu-4.2',
    kind: 'host',
  },
  {
    pattern:
      /vdso: (?:Can't|Failed|Not all|Unexpected|Error|No ).*|kerndat_vdso_fill_symtable failed|Can't parse.*vdso|VDSO doesn't match/i,
    sentence: "this criu is too old for this kernel: it does not understand the kernel's vDSO",
    cure: 'npm run setup -- criu-4.2',
    kind: 'host',
  },
  {
    pattern: /Kernel reports more capabilities than this CRIU supports/,
    sentence: 'this criu is too old for this kernel',
    cure: 'npm run setup -- criu-4.2',
    kind: 'host',
  },
  {
    pattern: /(\w+) failed when initializing kerndat|Could not initialize kernel features detection/,
    sentence: 'criu cannot find out what this kernel can do',
    cure: "'imago check' says which criu works here",
    kind: 'host',
  },
  {
    pattern: /iptables: not found|Iptables configuration failed|(?:nft|nftables).*(?:failed|Can't)/i,
    sentence: 'criu cannot hold back the packets of an established TCP connection',
    cure: 'load the kernel module nf_tables, or install iptables',
    kind: 'host',
  },
  {
    pattern: /No space left on device/,
    sentence: 'no space is left where the image goes',
    cure: 'choose another place with -o',
    kind: 'host',
  },
  // The program uses what cannot be dumped
  {
    pattern:
      /(?:is already|being) traced|Can't seize.*Operation not permitted|Unable to seize.*\((?:Operation not permitted|EPERM)\)|ptrace.*Operation not permitted/i,
    sentence: 'the program is being traced, or criu may not trace it',
    cure: 'detach the debugger (or strace) from it first',
    kind: 'host',
  },
  {
    pattern: /send_fds failed \(-22\)/,
    sentence: 'the program holds an io_uring, which cannot be dumped',
    cure: 'start it without io_uring (node: UV_USE_IO_URING=0)',
    kind: 'unsupported',
  },
  {
    pattern: /Connected TCP socket/,
    sentence: 'the program has an established TCP connection',
    kind: 'unsupported',
  },
  {
    pattern:
      /External socket is used|Runaway socket|unix.*[Cc]onnected.*outside|Can't dump half of (?:a )?stream unix connection/,
    sentence: 'the program is connected by a unix socket to a process that is not in its tree',
    cure: 'checkpoint the parent of both, or close the connection first',
    kind: 'unsupported',
  },
  {
    pattern: /Can't lookup mount=\S+ for fd=(\S+) path=(\S+)/,
    sentence: 'file descriptor $1 ($2) lies on a mount that criu cannot see from here',
    kind: 'unsupported',
  },
  {
    pattern: /Can't create link remap for (\S+?)\.? Use link-remap/,
    sentence: '$1 was deleted but has another name',
    kind: 'unsupported',
  },
  {
    pattern: /Can't dump ghost file (\S+) of (\d+) size/,
    sentence: 'the deleted file $1 is too large ($2 bytes) to go into the image',
    kind: 'unsupported',
  },
  {
    pattern: /The criu itself is within dumped tree/,
    sentence: 'imago itself runs below this process',
    cure: 'checkpoint it from another shell (or start imago with setsid)',
    kind: 'unsupported',
  },
  {
    pattern: /Found dangling tty|without correspond master peer|tty: .*(?:dangling|not.*found)/,
    sentence: 'the program lives on a terminal whose other end is outside of its tree',
    cure: "start it with 'setsid PROG </dev/null >FILE 2>&1'",
    kind: 'unsupported',
  },
  {
    pattern:
      /Can't handle non-regular mapping|Unsupported (?:file|vma|mapping)|Can't dump file \d+ of that type \[.*?\] \((.*?)\)/,
    sentence: 'the program has a file or mapping of a kind that criu cannot dump',
    kind: 'unsupported',
  },
  {
    pattern: /A session leader of (?:zombie process )?(\d+)\((\d+)\) is outside of its pid namespace/,
    sentence: 'process $2 belongs to a session whose leader is outside of its tree',
    kind: 'unsupported',
  },
  {
    pattern: /Unable to (?:interrupt|detach from|seize) (?:task: |from )?(\d+).*No such process/,
    sentence: 'process $1 ended, or there never was one',
    kind: 'other',
  },
  // Restore
  {
    pattern: /Can't fork for (\d+): File exists/,
    sentence: 'process id $1 is taken on this host',
    cure: 'end the process that has it (a zombie must be waited for by its parent), then try again',
    kind: 'host',
  },
  {
    pattern: /Can't fork for (\d+): (.*)/,
    sentence: 'criu cannot create process $1 with this id: $2',
    cure: 'the id may be above /proc/sys/kernel/pid_max, or a right may be missing',
    kind: 'host',
  },
  {
    pattern: /File (\S+) has bad size (\d+) \(expect (\d+)\)/,
    sentence: '/$1 has $2 bytes now, and had $3 at the checkpoint',
    cure: 'put back the file as it was',
    kind: 'host',
  },
  {
    pattern: /File (\S+) has bad mode (\d+) \(expect (\d+)\)/,
    sentence: '/$1 has mode $2 now, and had $3 at the checkpoint',
    cure: 'chmod $3 /$1',
    kind: 'host',
  },
  {
    pattern: /Can't open file (\S+?) on restore: No such file or directory/,
    sentence: '/$1 is not on this host',
    cure: 'put it where it was at the checkpoint',
    kind: 'host',
  },
  {
    pattern: /Can't open file (\S+?)(?: on restore)?: (.*)/,
    sentence: '/$1 cannot be opened: $2',
    kind: 'host',
  },
  {
    pattern: /Core march mismatch (\d+)/,
    sentence: 'the image is of another processor architecture',
    cure: "translate it first: 'imago retarget'",
    kind: 'host',
  },
  {
    pattern:
      /CPU.*(?:mismatch|doesn't support|not supported|do not match)|fpu.*(?:mismatch|incompatible)|xsave.*(?:mismatch|size)/i,
    sentence: 'the processor here lacks instructions that the one at the checkpoint had',
    kind: 'host',
  },
  {
    pattern: /Unable to restore capabilities|prctl\(PR_CAPBSET_DROP|Can't setcap/,
    sentence: 'the program had capabilities that cannot be given here',
    cure: 'restore as root with the same capabilities, or recompose the image without them',
    kind: 'host',
  },
  {
    pattern: /(?:Can't|Unable to) (?:bind|listen).*Address already in use|bind.*: Address already in use/i,
    sentence: 'a port that the program listens on is in use here',
    kind: 'host',
  },
  {
    pattern: /Need to set the --tcp-established|tcp.*(?:Can't|Unable).*(?:connect|bind)/i,
    sentence: 'an established TCP connection of the image cannot be taken up here',
    cure: 'the address it was on must be an address of this host',
    kind: 'host',
  },
  {
    pattern: /This process tree can only be restored in a new pid namespace/,
    sentence: 'the image holds the first process of a pid namespace',
    kind: 'unsupported',
  },
  {
    pattern:
      /(?:image|Magic).*(?:doesn't match|mismatch)|Unexpected EOF|Can't read.*img|Failed to open image|unpack failed|Error unpacking/i,
    sentence: 'the image is damaged or incomplete',
    cure: "'imago verify' says where",
    kind: 'image',
  },
  {
    pattern: /(\d+) (?:killed by signal|exited, status=)\s?(\d+)?/,
    sentence: 'process $1 died while it was being restored',
    kind: 'other',
  },
]

/** Lines that say nothing: printed on every run here. */
const harmless = /rlimit: Can't setup RLIMIT_NOFILE|Dirty tracking|kdat cache/

const classes = { host: HostError, image: UnreadableError, unsupported: LossError, other: PeerError } as const

/** criu's log as an error with one clear sentence, what criu itself said, and the cure. */
export function explain(what: string, log: string): ImagoError {
  const lines = log.split('\n').filter(line => !harmless.test(line))
  const text = lines.join('\n')
  for (const { pattern, sentence, cure, kind } of failures) {
    const match = pattern.exec(text)
    if (match === null) continue
    const fill = (words: string) => words.replace(/\$(\d)/g, (_, group) => match[Number(group)] ?? '?')
    const line = text.slice(text.lastIndexOf('\n', match.index) + 1).split('\n', 1)[0]!
    return new classes[kind](`${what}: ${fill(sentence)}`, {
      found: `criu: ${plain(line)}`,
      hint: cure && fill(cure),
    })
  }
  const said = lines.filter(line => /Error/.test(line)).map(plain)
  return new PeerError(`${what}: criu failed in a way that imago does not know`, {
    found: said.slice(0, 4).join('\n            ') || text.trim().split('\n').at(-1) || 'no words',
    hint: "'imago check' says whether criu works here at all",
  })
}

/** A line of the log without time stamp and source position. */
function plain(line: string): string {
  return line
    .replace(/^\(\d[\d.]*\)\s*/, '')
    .replace(/\s*Error \(.*?:\d+\):\s*/, ' ')
    .trim()
}
