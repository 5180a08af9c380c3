/** The native parts that `make -C native` builds, by name. */
import fs from 'node:fs'
import path from 'node:path'
import { HostError, UsageError } from '../../lib/errors.js'
import { packageRoot } from '../../lib/parts.js'

const nativeParts = ['libckpt.so', 'myrestart', 'myrestart-aarch64', 'until'] as const

/**
 * Absolute path of a native part.
 * @throws UsageError for an unknown name, HostError when it is not built.
 */
export function nativePart(name: string): string {
  if (!(nativeParts as readonly string[]).includes(name))
    throw new UsageError(`no native part is called '${name}'`, { expected: nativeParts.join(', ') })
  const file = path.join(packageRoot, 'native/build', name)
  if (!fs.existsSync(file))
    throw new HostError(`${name} is not built`, {
      file,
      hint: name.endsWith('-aarch64')
        ? 'npm run setup -- clang19 arm64-headers'
        : 'npm run setup (needs gcc and make)',
    })
  return file
}
