/**
 * The host's side of the agent in the aarch64 machine: one TCP connection a command.
 *
 *   request   "TOKEN SECONDS COMMAND\n", the command in base64; then its standard input, to the end of the stream
 *   answer    its standard output  its standard error  "\n%10d %10d\n": exit code, length of standard error
 *
 * The guest's side is `scripts/setup/arm64-machine/agent`.
 */
import net from 'node:net'
import { PeerError } from '../../lib/errors.js'

export interface Answer {
  /** 137 when the time was over. */
  readonly code: number
  readonly stdout: Buffer
  readonly stderr: string
}

const TRAILER = /^\n *(\d+) +(\d+)\n$/
const TRAILER_LENGTH = 23

/**
 * @param timeout milliseconds: the command is killed in the guest after them; the connection a little later.
 * @throws PeerError when there is no whole answer.
 */
export function ask(
  port: number,
  token: string,
  command: string,
  timeout: number,
  input: Uint8Array = new Uint8Array(),
): Promise<Answer> {
  const seconds = Math.ceil(timeout / 1000)
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = []
    const socket = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true })
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
