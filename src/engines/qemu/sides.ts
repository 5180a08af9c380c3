/** What `compare-run` is given, opened: an image in a standing QEMU, a gdb stub that waits, or the text of a trace. */
import fs from 'node:fs'
import readline from 'node:readline'
import { UsageError } from '../../lib/errors.js'
import { type Side, stubSide } from './compare.js'
import { GdbClient } from './gdb.js'
import { traceSide } from './gem5-trace.js'
import { asStream } from './pour.js'
import { resume } from './resume.js'

export interface OpenSide {
  readonly side: Side
  close(): Promise<void>
}

/**
 * @param word `gdb:HOST:PORT`, `gdb:SOCKET`, a machine image, or a file of text.
 * @param abort lets whatever waits for the side fail.
 */
export async function openSide(word: string, abort: AbortSignal): Promise<OpenSide> {
  if (word.startsWith('gdb:')) {
    const gdb = await GdbClient.connect(word.slice('gdb:'.length))
    abort.addEventListener('abort', () => gdb.close())
    return { side: stubSide(word, gdb), close: async () => gdb.close() }
  }
  if (!fs.existsSync(word))
    throw new UsageError(`'${word}' does not exist`, { expected: 'an image, gdb:HOST:PORT or a trace' })
  if (!fs.statSync(word).isFile() && !fs.statSync(word).isDirectory())
    throw new UsageError('a side is a file or a folder', { file: word })
  return isTrace(word) ? openTrace(word, abort) : openMachine(word, abort)
}

async function openMachine(image: string, abort: AbortSignal): Promise<OpenSide> {
  const poured = await asStream(image, line => line)
  const removeTemporary = () => {
    if (poured.temporary !== undefined) fs.rmSync(poured.temporary, { recursive: true, force: true })
  }
  try {
    const emulator = await resume(poured.stream, {
      line: poured.line,
      serial: () => {},
      paused: true,
      abort,
    })
    const gdb = await GdbClient.attach(emulator, { timers: true })
    return {
      side: stubSide(image, gdb),
      async close() {
        gdb.close()
        await emulator.stop()
        removeTemporary()
      },
    }
  } catch (error) {
    removeTemporary()
    throw error
  }
}

function openTrace(file: string, abort: AbortSignal): OpenSide {
  const stream = fs.createReadStream(file, 'utf8')
  const lines = readline.createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })
  abort.addEventListener('abort', () => lines.close())
  return {
    side: traceSide(file, lines),
    async close() {
      lines.close()
      stream.destroy()
    },
  }
}

/** A trace is text that begins, after other output of gem5, with ticks: no image begins with printable characters only. */
function isTrace(file: string): boolean {
  if (fs.statSync(file).isDirectory()) return false
  const fd = fs.openSync(file, 'r')
  try {
    const head = Buffer.alloc(4096)
    return /^\s*\d+: [\w.]+:? (?:A\d+ )?T\d+ : /m.test(head.toString('latin1', 0, fs.readSync(fd, head)))
  } finally {
    fs.closeSync(fd)
  }
}
