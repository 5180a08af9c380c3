/** One thing a host may or may not be able to do, how to find out, and the cure. */
import fs from 'node:fs'
import os from 'node:os'
import process from 'node:process'

export interface HostCheck {
  /** What would be possible: `checkpoint by preload`, `KVM guests`. */
  readonly name: string
  probe(): Promise<HostAnswer> | HostAnswer
}

export interface HostAnswer {
  readonly works: boolean
  readonly detail: string
  /** For a no: what the user can do. */
  readonly cure?: string
}

export const checksOfThisHost: readonly HostCheck[] = [
  {
    name: 'Linux on x86-64 or aarch64',
    probe: () => {
      const works = process.platform === 'linux' && (process.arch === 'x64' || process.arch === 'arm64')
      const detail = `${os.type()} ${os.release()}, ${os.machine()}`
      return works
        ? { works, detail }
        : { works, detail, cure: 'images can still be read, compared and translated here' }
    },
  },
  {
    name: 'Node.js 20 or newer',
    probe: () => ({
      works: Number(process.versions.node.split('.')[0]) >= 20,
      detail: `Node.js ${process.versions.node}`,
    }),
  },
  {
    name: 'same process ids at restore',
    probe: () => {
      if (process.getuid?.() === 0) return { works: true, detail: 'running as root' }
      const limit = readNumber('/proc/sys/user/max_user_namespaces')
      if (limit > 0) return { works: true, detail: 'through a user and pid namespace of its own' }
      return {
        works: false,
        detail: 'user namespaces are disabled',
        cure: 'sysctl user.max_user_namespaces=10000, or run as root',
      }
    },
  },
]

function readNumber(path: string): number {
  try {
    return Number(fs.readFileSync(path, 'utf8'))
  } catch {
    return 0
  }
}
