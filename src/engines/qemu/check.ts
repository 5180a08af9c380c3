/** What the engine `qemu` needs of a host. */
import { execFileSync } from 'node:child_process'
import type { HostCheck } from '../host-check.js'
import { findProgram, PROGRAM } from './emulator.js'

export const checks: readonly HostCheck[] = [
  {
    name: 'capture and resume machines',
    probe: () => {
      const program = findProgram()
      if (program === undefined)
        return {
          works: false,
          detail: `${PROGRAM} is not installed`,
          cure: 'apt-get install qemu-system-x86',
        }
      return {
        works: true,
        detail: execFileSync(program, ['--version'], { encoding: 'utf8' }).split('\n')[0]!,
      }
    },
  },
]
