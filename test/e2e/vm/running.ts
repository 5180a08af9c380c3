/** Commands that run beside a test: monitors, servers, senders. Each is killed with its test. */
import { type ChildProcess, spawn } from 'node:child_process'
import crypto from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { onTestFinished } from 'vitest'
import { packageRoot } from '../../../src/lib/parts.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

export interface Running {
  readonly child: ChildProcess
  /** Its exit code; null: a signal ended it. */
  readonly ended: Promise<number | null>
  /** What it has printed on both streams. */
  output(): string
  /** Waits until it has printed this. @throws when it ends without */
  said(wanted: string | RegExp): Promise<void>
}

/** `./imago words…`, its standard input a pipe. */
export function start(cwd: string, ...words: string[]): Running {
  const child = spawn(path.join(packageRoot, 'imago'), words, { cwd, stdio: ['pipe', 'pipe', 'pipe'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk))
  const ended = once(child, 'close').then(([code]) => code as number | null)
  return {
    child,
    ended,
    output: () => text,
    async said(wanted) {
      while (text.match(wanted) === null) {
        if (child.exitCode !== null || child.signalCode !== null) throw new Error(`it ended: ${text}`)
        await new Promise(resolve => setTimeout(resolve, 5))
      }
    },
  }
}

/** A folder with a key in `key`. */
export function folderWithKey(): string {
  const cwd = temporaryFolder()
  fs.writeFileSync(path.join(cwd, 'key'), crypto.randomBytes(32).toString('hex'), { mode: 0o600 })
  return cwd
}

/** `imago vm serve` in a folder with a key, on a port of the system's choice. */
export async function serve(cwd: string, ...words: string[]): Promise<Running & { port: number }> {
  const key = words.includes('--seed') ? [] : ['--key', 'key']
  const server = start(cwd, 'vm', 'serve', '--port', '0', ...key, ...words)
  const waiting = /Waiting for VM image on port (\d+)\.\.\.\n/
  await server.said(waiting)
  return { ...server, port: Number(waiting.exec(server.output())![1]) }
}

/** A port at which nobody listens. */
export async function deafPort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
