import fs from 'node:fs'

/** What the host says of a regular file, if there is one. */
export function statOf(path: string): fs.BigIntStats | undefined {
  const stat = fs.statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat?.isFile() ? stat : undefined
}
