/** CRIU's own image tool in Python, asked about many files at once: starting it costs more than a file does. */

import fs from 'node:fs'
import path from 'node:path'
import { findPart } from '../../src/lib/parts.js'
import { spawnSync } from './bounded.js'

/** The host's own Python: a private one would not see python3-protobuf. */
const PYTHON = '/usr/bin/python3'

const script = `
import json, sys
import pycriu
for name in sys.stdin.read().splitlines():
    for pretty in (True, False):
        with open(name, 'rb') as file:
            image = pycriu.images.load(file, pretty, False)
        with open(name + ('.pretty' if pretty else '.plain'), 'w') as out:
            json.dump(image, out, indent=4 if pretty else None)
    with open(name + '.ours') as ours, open(name + '.again', 'wb') as out:
        pycriu.images.dump(json.load(ours), out)
`

export type CritPart = 'crit' | 'crit-4.2'

/** Why the tool cannot be asked here, or undefined. */
export function critMissing(part: CritPart): string | undefined {
  if (findPart(part) === undefined) return `'${part}' is not in the cache (npm run setup -- ${part})`
  const { status } = spawnSync(PYTHON, ['-c', 'import google.protobuf'])
  return status === 0 ? undefined : 'python3-protobuf is not installed'
}

export interface CritAnswer {
  /** Its JSON, readable and plain. */
  readonly pretty: string
  readonly plain: string
  /** The image that it makes of our JSON. */
  readonly again: Uint8Array
}

/** What crit makes of files; `ours` is our JSON of each, for it to encode. */
export function askCrit(part: CritPart, files: ReadonlyMap<string, string>): Map<string, CritAnswer> {
  for (const [file, ours] of files) fs.writeFileSync(`${file}.ours`, ours)
  const result = spawnSync(PYTHON, ['-c', script], {
    input: [...files.keys()].join('\n'),
    encoding: 'utf8',
    env: { ...process.env, PYTHONPATH: path.join(findPart(part)!, 'usr/lib/python3/dist-packages') },
  })
  if (result.status !== 0) throw new Error(`crit failed: ${result.stderr}`)
  const read = (file: string) => fs.readFileSync(file, 'utf8')
  return new Map(
    [...files.keys()].map(file => [
      file,
      {
        pretty: read(`${file}.pretty`),
        plain: read(`${file}.plain`),
        again: fs.readFileSync(`${file}.again`),
      },
    ]),
  )
}

/** What `crit x FOLDER WHAT` prints. */
export function critListing(part: CritPart, folder: string, what: string): string {
  const result = spawnSync(PYTHON, ['-m', 'crit', 'x', folder, what], {
    encoding: 'utf8',
    env: { ...process.env, PYTHONPATH: path.join(findPart(part)!, 'usr/lib/python3/dist-packages') },
  })
  if (result.status !== 0) throw new Error(`crit failed: ${result.stderr}`)
  return result.stdout
}
