/**
 * A core that `--compress` made one zstd frame: unpacked, for as long as this process lives, it is read as any other.
 * The plain file lies in the folder for temporary files, holes for zeros.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { decompressFile, isZstd } from '../../lib/zstd.js'

const unpacked = new Map<string, string>()

/** The path itself for a plain core, that of an unpacked copy for a compressed one. @throws UnreadableError for a damaged frame. */
export function plain(file: string): string {
  if (!isZstd(file)) return file
  const known = unpacked.get(path.resolve(file))
  if (known !== undefined) return known
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-'))
  process.once('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
  const copy = path.join(folder, path.basename(file))
  decompressFile(file, copy)
  unpacked.set(path.resolve(file), copy)
  return copy
}
