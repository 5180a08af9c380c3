/**
 * Files that are either whole or not there: written under a temporary name in the same folder, synced,
 * renamed over the old one, and the folder synced. A crash at any moment leaves the previous file untouched.
 */
import fs from 'node:fs'
import path from 'node:path'

let counter = 0

/** A name beside `target` that no other writer of this host uses. */
export function temporaryName(target: string): string {
  return path.join(path.dirname(target), `.${path.basename(target)}.${process.pid}-${counter++}.tmp`)
}

/** Makes a rename or a new name in `directory` survive a power cut. */
export function syncDirectory(directory: string): void {
  const fd = fs.openSync(directory, 'r')
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

/**
 * Calls `write` with the descriptor of a temporary file, then syncs it and renames it to `target`.
 * When `write` throws, the temporary file is removed and `target` stays as it was.
 */
export function writeFileAtomically(target: string, write: (fd: number) => void, mode = 0o600): void {
  const temporary = temporaryName(target)
  const fd = fs.openSync(temporary, 'wx', mode)
  try {
    try {
      write(fd)
      fs.fsyncSync(fd)
    } finally {
      fs.closeSync(fd)
    }
    fs.renameSync(temporary, target)
  } catch (error) {
    fs.rmSync(temporary, { force: true })
    throw error
  }
  syncDirectory(path.dirname(target))
}

/** The same for a folder: `fill` gets a fresh temporary folder, which then takes the place of `target`. */
export async function writeDirectoryAtomically(
  target: string,
  fill: (directory: string) => Promise<void> | void,
): Promise<void> {
  const temporary = temporaryName(target)
  fs.mkdirSync(temporary, { mode: 0o700 })
  try {
    await fill(temporary)
    for (const name of fs.readdirSync(temporary, { recursive: true }) as string[]) {
      const fd = fs.openSync(path.join(temporary, name), 'r')
      try {
        fs.fsyncSync(fd)
      } finally {
        fs.closeSync(fd)
      }
    }
    syncDirectory(temporary)
    // rename(2) replaces an empty folder only, so the old one steps aside first; it is removed once the new one stands.
    const old = fs.existsSync(target) ? temporaryName(target) : undefined
    if (old !== undefined) fs.renameSync(target, old)
    fs.renameSync(temporary, target)
    if (old !== undefined) fs.rmSync(old, { recursive: true, force: true })
  } catch (error) {
    fs.rmSync(temporary, { recursive: true, force: true })
    throw error
  }
  syncDirectory(path.dirname(target))
}

/** Writes all of `bytes` at `offset`: `fs.writeSync` may write less than asked. */
export function writeFully(fd: number, bytes: Uint8Array, offset: number): void {
  let done = 0
  while (done < bytes.length) done += fs.writeSync(fd, bytes, done, bytes.length - done, offset + done)
}
