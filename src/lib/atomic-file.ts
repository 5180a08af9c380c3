/**
 * Files that are either whole or not there: written under a temporary name in the same folder, synced,
 * renamed over the old one, and the folder synced. A crash at any moment leaves the previous file untouched.
 */
import fs from 'node:fs'
import { open } from 'node:fs/promises'
import path from 'node:path'
import { fileCalls } from './libc.js'

const AT_FDCWD = -100
const RENAME_EXCHANGE = 2

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
    await syncTree(temporary)
    putInPlace(temporary, target)
  } catch (error) {
    fs.rmSync(temporary, { recursive: true, force: true })
    throw error
  }
  syncDirectory(path.dirname(target))
}

/** rename(2) replaces an empty folder only: the two change places, and the old one goes once the new one stands. */
function putInPlace(fresh: string, target: string): void {
  if (!fs.existsSync(target)) {
    fs.renameSync(fresh, target)
    return
  }
  let old = fresh
  const exchanged =
    fileCalls().renameat2(AT_FDCWD, path.resolve(fresh), AT_FDCWD, path.resolve(target), RENAME_EXCHANGE) ===
    0
  if (!exchanged) {
    // A file system that cannot: for a moment no name is there, but never half a folder.
    old = temporaryName(target)
    fs.renameSync(target, old)
    fs.renameSync(fresh, target)
  }
  syncDirectory(path.dirname(target))
  fs.rmSync(old, { recursive: true, force: true })
}

async function syncTree(directory: string): Promise<void> {
  await Promise.all(
    fs.readdirSync(directory, { withFileTypes: true }).map(async entry => {
      const name = path.join(directory, entry.name)
      if (entry.isDirectory()) return syncTree(name)
      if (!entry.isFile()) return // a symbolic link is part of its folder
      const file = await open(name)
      try {
        await file.sync()
      } finally {
        await file.close()
      }
    }),
  )
  syncDirectory(directory)
}

/** Writes all of `bytes` at `offset`: `fs.writeSync` may write less than asked. */
export function writeFully(fd: number, bytes: Uint8Array, offset: number): void {
  let done = 0
  while (done < bytes.length) done += fs.writeSync(fd, bytes, done, bytes.length - done, offset + done)
}
