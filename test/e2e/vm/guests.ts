/** The guests that the tests run: workloads/vm, built once a run into the cache. */

import fs from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'vitest'
import { cacheFolder, packageRoot } from '../../../src/lib/parts.js'
import { execFileSync } from '../../helpers/bounded.js'

const out = path.join(cacheFolder(), 'vm-guests')

/** Why no guest can be run here; undefined: it can. */
export function missingForGuests(): string | undefined {
  try {
    fs.accessSync('/dev/kvm', fs.constants.R_OK | fs.constants.W_OK)
  } catch {
    return '/dev/kvm is missing or denied'
  }
  if (!fs.existsSync('/usr/bin/musl-gcc')) return 'musl-gcc is not installed (Debian: musl-tools)'
  return undefined
}

/** Skips a test, with the reason, where no guest can be run. */
export function needGuests(skip: TestContext['skip']): void {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
}

/** Path of a program of workloads/vm. */
export function guest(name: string): string {
  execFileSync('make', [
    '-s',
    '-C',
    path.join(packageRoot, 'workloads/vm'),
    `OUT=${out}`,
    path.join(out, name),
  ])
  return path.join(out, name)
}

/** What the guest `ticks` prints from one count up to another. */
export const ticks = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => `tick ${from + i}\n`).join('')
