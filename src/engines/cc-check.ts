/** What `imago cc` needs of this host. */

import { findPart } from '../lib/parts.js'
import type { HostCheck } from './host-check.js'

export const checks: readonly HostCheck[] = [
  {
    name: 'compile with imago cc',
    probe: () => {
      const missing = ['clang19', 'musl'].filter(part => findPart(part) === undefined)
      return missing.length === 0
        ? { works: true, detail: 'clang 19 and musl of both ISAs' }
        : {
            works: false,
            detail: `not in the cache: ${missing.join(', ')}`,
            cure: `npm run setup -- ${missing.join(' ')}`,
          }
    },
  },
]
