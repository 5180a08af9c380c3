/** What the preload engine needs of a host: its native parts, and what the kernel tells a process of itself. */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import type { HostCheck } from '../host-check.js'
import { nativePart } from './native-parts.js'
import { environmentFor } from './run.js'

export const checks: readonly HostCheck[] = [
  {
    name: 'checkpoint by preload',
    probe: () => {
      const library = nativePart('libckpt.so')
      for (const file of ['pagemap', 'smaps', 'timers', 'mem'])
        if (!fs.existsSync(`/proc/self/${file}`))
          return {
            works: false,
            detail: `/proc/self/${file} is not there`,
            cure: 'a kernel with CONFIG_CHECKPOINT_RESTORE and CONFIG_PROC_PAGE_MONITOR, and /proc mounted',
          }
      return { works: true, detail: library }
    },
  },
  {
    name: 'restore by preload',
    probe: () => {
      // A whole round trip: a shell that freezes itself, and says so twice when it wakes up.
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-check-'))
      try {
        const image = path.join(folder, 'image')
        const script = 'kill -12 $$; while [ ! -e image ]; do :; done; exit 42'
        const options = { cwd: folder, stdio: 'ignore', timeout: 10_000 } as const
        const first = spawnSync('/bin/sh', ['-c', script], {
          ...options,
          env: environmentFor({ output: image }),
        })
        const second = spawnSync(nativePart('myrestart'), [image], options)
        if (first.status === 42 && second.status === 42)
          return { works: true, detail: 'a shell was frozen and woken up' }
        return {
          works: false,
          detail: `a shell that froze itself ended with ${first.status}, and restored with ${second.status}`,
          cure: 'imago run -- sh, then imago checkpoint and imago restore say why',
        }
      } finally {
        fs.rmSync(folder, { recursive: true, force: true })
      }
    },
  },
]
