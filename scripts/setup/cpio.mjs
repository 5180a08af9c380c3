/**
 * Writes a cpio archive of the kind Linux unpacks as an initial RAM disk ("newc", cpio(5); the kernel's
 * Documentation/driver-api/early-userspace/buffer-format.rst). An entry:
 *
 *   "070701", 13 fields of 8 hex digits (inode, mode, uid, gid, links, mtime, size, device ×4, name length, check)
 *   name and NUL, zeros to a multiple of 4, content, zeros to a multiple of 4
 *
 * The entry named TRAILER!!! ends the archive. Owner is root and times are 0, so that equal folders give equal bytes.
 */
import fs from 'node:fs'
import path from 'node:path'

/** The archive of everything below `folder`, parents before children. */
export function cpioOf(folder) {
  const pieces = []
  let inode = 0
  const padded = bytes => [bytes, Buffer.alloc(-bytes.length & 3)]
  const add = (name, mode, content) => {
    const nameBytes = Buffer.from(`${name}\0`)
    const fields = [++inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, nameBytes.length, 0]
    const head = `070701${fields.map(field => field.toString(16).padStart(8, '0')).join('')}`
    pieces.push(...padded(Buffer.concat([Buffer.from(head), nameBytes])), ...padded(content))
  }
  // By hand: readdir's own recursion goes through symbolic links.
  const addAll = below => {
    for (const entry of fs.readdirSync(path.join(folder, below)).sort()) {
      const name = path.posix.join(below, entry)
      const file = path.join(folder, name)
      const { mode } = fs.lstatSync(file)
      const type = mode & fs.constants.S_IFMT
      if (type === fs.constants.S_IFLNK) add(name, mode, Buffer.from(fs.readlinkSync(file)))
      else if (type === fs.constants.S_IFREG) add(name, mode, fs.readFileSync(file))
      else if (type === fs.constants.S_IFDIR) {
        add(name, mode, Buffer.alloc(0))
        addAll(name)
      }
    }
  }
  addAll('')
  add('TRAILER!!!', 0, Buffer.alloc(0))
  return Buffer.concat(pieces)
}
