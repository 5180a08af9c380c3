/** What a host needs to run guests: lines of `imago check`. */
import fs from 'node:fs'
import type { HostCheck } from '../host-check.js'

export const checks: readonly HostCheck[] = [
  {
    name: 'guests by KVM',
    probe: () => {
      try {
        fs.accessSync('/dev/kvm', fs.constants.R_OK | fs.constants.W_OK)
        return { works: true, detail: '/dev/kvm' }
      } catch (error) {
        const denied = (error as NodeJS.ErrnoException).code === 'EACCES'
        return {
          works: false,
          detail: denied ? '/dev/kvm is denied' : '/dev/kvm is missing',
          cure: denied
            ? 'add yourself to the group kvm'
            : 'load kvm_intel or kvm_amd; until then guests are emulated',
        }
      }
    },
  },
  {
    name: 'guests by Unicorn (slow)',
    probe: async () => {
      try {
        const { unicorn } = await import('../unicorn/cpu.js')
        unicorn()
        return { works: true, detail: 'libunicorn.so.2' }
      } catch (error) {
        return { works: false, detail: (error as Error).message, cure: 'apt-get install libunicorn2' }
      }
    },
  },
]
