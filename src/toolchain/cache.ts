/** What `imago cc` keeps between builds: folders of the cache named by the hash of all that goes into them. */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { ImagoError } from '../lib/errors.js'
import { cacheFolder, packageRoot } from '../lib/parts.js'

export const nativeFolder = path.join(packageRoot, 'native')

/** SHA-256 of texts, each with its length, as hexadecimal digits. */
export const hashOf = (...parts: readonly string[]) => {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(`${part.length}:`).update(part)
  return hash.digest('hex')
}

let ownHash: string | undefined
/** Of this compiler: its code, and its runtime. */
export function toolchainHash(): string {
  if (ownHash === undefined) {
    const hash = createHash('sha256')
    const own = path.dirname(fileURLToPath(import.meta.url))
    for (const folder of [own, nativeFolder])
      for (const name of (fs.readdirSync(folder, { recursive: true }) as string[]).sort())
        if (/\.([jt]s|[ch])$/.test(name)) hash.update(name).update(fs.readFileSync(path.join(folder, name)))
    ownHash = hash.digest('hex')
  }
  return ownHash
}

/** Folders that stay however old they are; older ones go after an hour, as a build may be at work in them. */
const KEPT = 48

/** A folder of the cache, filled once under another name and renamed when whole. The oldest go when there are many. */
export async function cached(name: string, fill: (folder: string) => Promise<void>): Promise<string> {
  const root = path.join(cacheFolder(), 'cc')
  const folder = path.join(root, name)
  if (fs.existsSync(folder)) {
    const now = new Date()
    fs.utimesSync(folder, now, now)
    return folder
  }
  fs.mkdirSync(root, { recursive: true })
  const temporary = fs.mkdtempSync(path.join(root, '.new-'))
  try {
    await fill(temporary)
    fs.renameSync(temporary, folder)
  } catch (error) {
    fs.rmSync(temporary, { recursive: true, force: true })
    if (error instanceof ImagoError || !fs.existsSync(folder)) throw error // another build may have been quicker
  }
  const entries = fs
    .readdirSync(root)
    .filter(each => !each.startsWith('.'))
    .map(each => ({
      each,
      time: fs.statSync(path.join(root, each), { throwIfNoEntry: false })?.mtimeMs ?? 0,
    }))
    .sort((a, b) => b.time - a.time)
  for (const { each, time } of entries.slice(KEPT))
    if (Date.now() - time > 3_600_000) fs.rmSync(path.join(root, each), { recursive: true, force: true })
  return folder
}
