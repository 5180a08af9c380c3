/**
 * The encrypted, mutually authenticated connection between two imagos: TLS 1.2 with a pre-shared key. The key is a
 * file of 32 bytes in hex; without `--key` it is the user's own (made at first use), which serves between programs of
 * one user on one host. To move between hosts, copy the file to both.
 */
import crypto from 'node:crypto'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import { PeerError, UsageError } from '../lib/errors.js'

const CIPHERS = 'ECDHE-PSK-CHACHA20-POLY1305:@SECLEVEL=0'
const IDENTITY = 'imago'
const HANDSHAKE_MS = 10_000
const RETRY_MS = 1000

const common = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2', ciphers: CIPHERS } as const

export type Key = Buffer

function defaultKeyPath(): string {
  const base = process.env.XDG_CONFIG_HOME ?? path.join(os.homedir(), '.config')
  return path.join(base, 'imago', 'key')
}

/** Reads the key, or makes the user's own. @throws UsageError when others may read it or it is no key. */
export function readKey(file: string | undefined): Key {
  const keyPath = file ?? defaultKeyPath()
  if (file === undefined && !fs.existsSync(keyPath)) {
    fs.mkdirSync(path.dirname(keyPath), { recursive: true, mode: 0o700 })
    // Written aside and linked: two first uses at once end with one key.
    const temporary = `${keyPath}.${process.pid}`
    fs.writeFileSync(temporary, `${crypto.randomBytes(32).toString('hex')}\n`, { mode: 0o600, flag: 'wx' })
    try {
      fs.linkSync(temporary, keyPath)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    } finally {
      fs.rmSync(temporary)
    }
  }
  let text: string
  try {
    if ((fs.statSync(keyPath).mode & 0o077) !== 0)
      throw new UsageError('the key may be read by others', { file: keyPath, hint: `chmod 600 ${keyPath}` })
    text = fs.readFileSync(keyPath, 'utf8').trim()
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new UsageError('the key cannot be read', { file: keyPath, cause: error })
  }
  if (!/^[0-9a-f]{64}$/i.test(text))
    throw new UsageError('this is no key', {
      file: keyPath,
      expected: '64 hexadecimal digits',
      hint: `openssl rand -hex 32 > ${keyPath}`,
    })
  return Buffer.from(text, 'hex')
}

/** Listens; `onConnection` gets connections of peers that have the key. */
export async function listen(
  key: Key,
  host: string,
  port: number,
  onConnection: (socket: tls.TLSSocket) => void,
): Promise<tls.Server> {
  const server = tls.createServer(
    {
      ...common,
      handshakeTimeout: HANDSHAKE_MS,
      pskCallback: (_socket: tls.TLSSocket, identity: string) => (identity === IDENTITY ? key : null),
      pskIdentityHint: IDENTITY,
    } as tls.TlsOptions,
    socket => {
      socket.setNoDelay(true)
      onConnection(socket)
    },
  )
  server.on('tlsClientError', () => {}) // a stranger: the handshake failed, and the socket is gone
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, resolve)
  }).catch((error: Error) => {
    throw new PeerError(`cannot listen on ${host}:${port}`, { cause: error, found: error.message })
  })
  return server
}

/** Where a socket's failure is only that nobody listens yet. */
const isAbsent = (error: NodeJS.ErrnoException) => error.code === 'ECONNREFUSED' || error.code === 'ENOENT'

export interface ConnectOptions {
  /** Told before each new attempt. */
  onRetry?(): void
  /** How often to try again; undefined: for ever. */
  readonly retries?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** A plain TCP connection; tries again every second while nobody listens. @throws PeerError */
export async function connectPlain(
  host: string,
  port: number,
  options: ConnectOptions = {},
): Promise<net.Socket> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await new Promise<net.Socket>((resolve, reject) => {
        const socket = net.connect(port, host)
        socket.once('error', reject)
        socket.once('connect', () => {
          socket.off('error', reject)
          socket.setNoDelay(true)
          resolve(socket)
        })
      })
    } catch (error) {
      if (
        !isAbsent(error as NodeJS.ErrnoException) ||
        options.signal?.aborted ||
        (options.retries !== undefined && attempt >= options.retries)
      )
        throw new PeerError(`cannot connect to ${host}:${port}`, {
          cause: error,
          found: (error as Error).message,
        })
      options.onRetry?.()
      await new Promise(resolve => setTimeout(resolve, RETRY_MS))
    }
  }
}

/** The same, authenticated. @throws PeerError */
export async function connect(
  key: Key,
  host: string,
  port: number,
  options: ConnectOptions = {},
): Promise<tls.TLSSocket> {
  const plain = await connectPlain(host, port, options)
  return new Promise<tls.TLSSocket>((resolve, reject) => {
    const socket = tls.connect({
      ...common,
      socket: plain,
      pskCallback: () => ({ psk: key, identity: IDENTITY }),
      checkServerIdentity: () => undefined,
    } as tls.ConnectionOptions)
    const timer = setTimeout(() => socket.destroy(new Error('no answer')), HANDSHAKE_MS)
    const fail = (error?: Error) => {
      clearTimeout(timer)
      socket.destroy()
      plain.destroy()
      reject(
        new PeerError(`the imago at ${host}:${port} does not accept our key`, {
          found: error?.message ?? 'it closed the connection',
          hint: 'both sides need the same key file (--key)',
        }),
      )
    }
    socket.once('error', fail)
    socket.once('close', fail)
    socket.once('secureConnect', () => {
      clearTimeout(timer)
      socket.off('error', fail)
      socket.off('close', fail)
      resolve(socket)
    })
  })
}
