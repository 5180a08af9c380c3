/**
 * The host's side of the agent in the aarch64 machine: one TCP connection a command.
 *
 *   greeting  "\n", the guest's: a connection that ends before it did nothing, and is made again
 *   request   "TOKEN SECONDS COMMAND\n", the command in base64; then its standard input, to the end of the stream
 *   answer    its standard output  its standard error  "\n%10d %10d\n": exit code, length of standard error
 *
 * The guest's side is `scripts/setup/arm64-machine/agent`.
 */
import net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { PeerError } from '../../lib/errors.js'

export interface Answer {
  /** 137 when the time was over. */
  readonly code: number
  readonly stdout: Buffer
  readonly stderr: string
}

const TRAILER = /^\n *(\d+) +(\d+)\n$/
const TRAILER_LENGTH = 23

const GREETING_TIMEOUT = 3000
const CONNECTIONS_TRIED = 5

/** Connections are made one after the other: of several at the same moment, busybox's nc or QEMU's network loses some. */
const turns = new Map<number, Promise<unknown>>()

/** A connection that has been greeted: the guest's agent is at its other end. */
function connect(port: number): Promise<net.Socket> {
  const turn = (turns.get(port) ?? Promise.resolve()).catch(() => {}).then(() => tryToConnect(port))
  turns.set(port, turn)
  return turn
}

async function tryToConnect(port: number): Promise<net.Socket> {
  for (let left = CONNECTIONS_TRIED; left > 0; left--) {
    const socket = await greeted(port)
    if (socket !== undefined) return socket
    await sleep(200)
  }
  throw new PeerError('the aarch64 machine does not answer')
}

function greeted(port: number): Promise<net.Socket | undefined> {
  return new Promise(resolve => {
    const socket = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true })
    const give = (result: net.Socket | undefined) => {
      clearTimeout(timer)
      socket.removeAllListeners()
      if (result === undefined) {
        socket.on('error', () => {})
        socket.destroy()
      }
      resolve(result)
    }
    const timer = setTimeout(() => give(undefined), GREETING_TIMEOUT)
    socket.once('error', () => give(undefined))
    socket.once('end', () => give(undefined))
    socket.once('data', () => give(socket))
  })
}

/**
 * @param timeout milliseconds: the command is killed in the guest after them; the connection a little later.
 * @throws PeerError when there is no whole answer.
 */
export async function ask(
  port: number,
  token: string,
  command: string,
  timeout: number,
  input: Uint8Array = new Uint8Array(),
): Promise<Answer> {
  const seconds = Math.ceil(timeout / 1000)
  const socket = await connect(port)
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = []
    const fail = (why: string) => {
      clearTimeout(timer)
      socket.destroy()
      reject(new PeerError(`the aarch64 machine gave no answer to '${command}': ${why}`))
    }
    const timer = setTimeout(() => fail(`none within ${seconds} s`), timeout + 5000)
    socket.on('error', error => fail(error.message))
    socket.on('data', piece => pieces.push(piece))
    socket.on('end', () => {
      const all = Buffer.concat(pieces)
      const body = all.length - TRAILER_LENGTH
      const trailer = TRAILER.exec(all.toString('latin1', Math.max(body, 0)))
      if (trailer === null) return fail('the connection ended before the answer did')
      clearTimeout(timer)
      socket.destroy()
      const split = body - Number(trailer[2])
      resolve({
        code: Number(trailer[1]),
        stdout: all.subarray(0, split),
        stderr: all.toString('utf8', split, body),
      })
    })
    socket.write(`${token} ${seconds} ${Buffer.from(command).toString('base64')}\n`)
    socket.end(input)
  })
}

/** A word of a shell's command line. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`
}
