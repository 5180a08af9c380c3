/**
 * How `imago checkpoint PID` reaches a monitor: a Unix socket that only the monitor's user (and root) can open.
 *
 *   imago checkpoint PID                              the monitor (vm run, restore, serve, send)
 *   connects to /tmp/imago-vm-UID/PID  ──────────────► listens from the guest's beginning to its end
 *   {"output": …, "stop": …, "withFiles": …} \n ─────► stops the guest, saves, verifies, goes on or ends
 *   ◄───────────────── {"path", "bytes", "pauseMs"} \n or {"failed": class of the error, "message"} \n
 */
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { errorNamed, HostError, ImagoError, PeerError, UsageError } from '../../lib/errors.js'
import type { CheckpointOptions, CheckpointResult } from '../engine.js'

export interface SaveRequest {
  /** Absolute; undefined: where the guest's saves go anyway. */
  readonly output: string | undefined
  /** The guest ends when its image is verified. */
  readonly stop: boolean
  readonly withFiles: boolean
}

/** What a monitor answers. */
export interface Saved {
  readonly path: string
  /** Bytes on disk: holes do not count. */
  readonly bytes: number
  /** How long the guest stood still. */
  readonly pauseMs: number
}

type Answer = Saved | { readonly failed: string; readonly message: string }

const MOST_REQUEST = 16384
/** A request is one line, sent at once. */
const REQUEST_MS = 10_000
const folderOf = (uid: number) => `/tmp/imago-vm-${uid}`

/** Where the monitor with this pid listens. */
function socketOf(pid: number): string | undefined {
  try {
    return path.join(folderOf(fs.statSync(`/proc/${pid}`).uid), String(pid))
  } catch {
    return undefined
  }
}

const listening = () => fs.readFileSync('/proc/net/unix', 'latin1').split('\n')

/** True when the process runs a guest. */
export function runsGuest(pid: number): boolean {
  const socket = socketOf(pid)
  return (
    socket !== undefined && fs.existsSync(socket) && listening().some(line => line.endsWith(` ${socket}`))
  )
}

/** Asks the monitor for an image, and waits until it is finished and verified. @throws what the monitor met, HostError */
export async function checkpointGuest(pid: number, options: CheckpointOptions): Promise<CheckpointResult> {
  const began = performance.now()
  if (options.compress) throw new UsageError('images of guests are not compressed')
  const request: SaveRequest = {
    output: options.output === undefined ? undefined : path.resolve(options.output),
    stop: options.stop,
    withFiles: options.includeFiles === true,
  }
  const saved = await ask(pid, request)
  return { ...saved, totalMs: performance.now() - began }
}

async function ask(pid: number, request: SaveRequest): Promise<Saved> {
  const socket = net.connect(socketOf(pid) ?? '')
  const gone = (cause?: Error) =>
    new PeerError(`process ${pid} ended before the image of its guest was finished`, { cause })
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', (cause: NodeJS.ErrnoException) =>
        reject(
          cause.code === 'EACCES'
            ? new HostError(`process ${pid} belongs to another user`, { cause })
            : new HostError(`process ${pid} does not run a guest any more`, { cause }),
        ),
      )
    })
    socket.write(`${JSON.stringify(request)}\n`)
    let text = ''
    try {
      for await (const chunk of socket) text += String(chunk)
    } catch (cause) {
      throw gone(cause as Error)
    }
    if (!text.endsWith('\n')) throw gone()
    const answer = JSON.parse(text) as Answer
    if ('failed' in answer) throw errorNamed(answer.failed, answer.message)
    return answer
  } finally {
    socket.destroy()
  }
}

/**
 * Listens for requests; `save` is called with each and resolves when the image is verified.
 * Returns how to end it, or undefined where the folder of sockets is not ours (someone else made it): the guest runs all the same.
 */
export function listenForRequests(
  save: (request: SaveRequest) => Promise<Saved>,
): { close(): void } | undefined {
  const folder = folderOf(process.getuid!())
  const socketPath = path.join(folder, String(process.pid))
  try {
    fs.mkdirSync(folder, { mode: 0o700, recursive: true })
    const { uid, mode } = fs.lstatSync(folder)
    if (uid !== process.getuid!() || (mode & 0o077) !== 0) return undefined
    sweep(folder)
    fs.rmSync(socketPath, { force: true })
  } catch {
    return undefined
  }
  const server = net.createServer({ allowHalfOpen: true }, socket => {
    socket.on('error', () => {})
    // The guest's end ends its monitor, whoever is still connected.
    socket.unref()
    serve(socket, save).catch(() => socket.destroy())
  })
  server.on('error', () => {})
  server.listen(socketPath)
  server.unref()
  return {
    close() {
      server.close()
      fs.rmSync(socketPath, { force: true })
    },
  }
}

/** One request a connection. */
async function serve(socket: net.Socket, save: (request: SaveRequest) => Promise<Saved>): Promise<void> {
  let answer: Answer
  try {
    answer = await save(parseRequest(await lineFrom(socket)))
  } catch (error) {
    const { name, message } = error as Error
    answer = { failed: name, message: error instanceof ImagoError ? error.describe() : message }
  }
  await new Promise<void>(resolve => socket.end(`${JSON.stringify(answer)}\n`, resolve))
}

async function lineFrom(socket: net.Socket): Promise<string> {
  let text = ''
  socket.setTimeout(REQUEST_MS, () => socket.destroy(new Error('no request')))
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    text += String(chunk)
    if (text.endsWith('\n')) {
      socket.setTimeout(0)
      return text
    }
    if (text.length > MOST_REQUEST) break
  }
  throw new UsageError('no request')
}

function parseRequest(text: string): SaveRequest {
  const { output, stop, withFiles } = JSON.parse(text) as Record<string, unknown>
  return {
    output: typeof output === 'string' ? path.resolve(output) : undefined,
    stop: stop === true,
    withFiles: withFiles === true,
  }
}

/** Sockets of monitors that were killed. */
function sweep(folder: string): void {
  const alive = listening()
  for (const name of fs.readdirSync(folder)) {
    const socket = path.join(folder, name)
    if (!fs.existsSync(`/proc/${name}`) && !alive.some(line => line.endsWith(` ${socket}`)))
      fs.rmSync(socket, { force: true })
  }
}
