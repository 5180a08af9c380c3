/** Input and output of verbs that filter: a file, or standard input and output (also named `-`). */
import fs from 'node:fs'
import { writeFileAtomically } from '../lib/atomic-file.js'
import { FileSource } from '../lib/byte-source.js'
import { UsageError } from '../lib/errors.js'

/** All bytes of `file`, or of standard input. */
export function readInput(file: string | undefined): Uint8Array {
  if (file === undefined || file === '-') {
    if (process.stdin.isTTY) throw new UsageError('no file is named, and standard input is a terminal')
    return fs.readFileSync(0)
  }
  const source = new FileSource(file)
  try {
    return source.read(0, source.size)
  } finally {
    source.close()
  }
}

/** Writes pieces to `file` (whole or not at all), or to standard output with `ending` after them. */
export function writeOutput(
  file: string | undefined,
  pieces: Iterable<string | Uint8Array>,
  ending = '',
): void {
  if (file === undefined || file === '-') {
    for (const piece of pieces) process.stdout.write(piece)
    if (ending !== '') process.stdout.write(ending)
    return
  }
  const write = (fd: number) => {
    for (const piece of pieces) {
      const bytes = typeof piece === 'string' ? Buffer.from(piece) : piece
      for (let done = 0; done < bytes.length; ) done += fs.writeSync(fd, bytes, done)
    }
  }
  // A pipe or device cannot be replaced by another file.
  if (fs.statSync(file, { throwIfNoEntry: false })?.isFile() === false) {
    const fd = fs.openSync(file, 'w')
    try {
      write(fd)
    } finally {
      fs.closeSync(fd)
    }
  } else writeFileAtomically(file, write, 0o644)
}
