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
import { setTimeout as sleep } from 'node:timers/promises'
import tls from 'node:tls'
import { PeerError, UsageError } from '../lib/errors.js'

const CIPHERS = 'ECDHE-PSK-CHACHA20-POLY1305:@SECLEVEL=0'
const IDENTITY = 'imago'
const HANDSHAKE_MS = 10_000
/** A host that is not there may answer nothing at all. */
const CONNECT_MS = 20_000
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
  /** Ends every wait, that for the next attempt, too. */
  readonly signal?: AbortSignal | undefined
}

/** A plain TCP connection; tries again every second while nobody listens. @throws PeerError */
export async function connectPlain(
  host: string,
  port: number,
  options: ConnectOptions = {},
): Promise<net.Socket> {
  const { signal, retries = Number.POSITIVE_INFINITY } = options
  for (let attempt = 0; ; attempt++) {
    try {
      const socket = await once('connect', signal, CONNECT_MS, () => net.connect(port, host))
      socket.setNoDelay(true)
      return socket
    } catch (error) {
      if (!isAbsent(error as NodeJS.ErrnoException) || signal?.aborted || attempt >= retries)
        throw new PeerError(`cannot connect to ${host}:${port}`, {
          cause: error,
          found: (error as Error).message,
        })
      options.onRetry?.()
      await sleep(RETRY_MS, undefined, { signal }).catch(() => {}) // the next attempt says that it was aborted
    }
  }
}

/** A socket on which `event` has come, or an error: its own, no answer in time, or the end that the user wants. */
function once<S extends net.Socket>(
  event: 'connect' | 'secureConnect',
  signal: AbortSignal | undefined,
  limitMs: number,
  make: () => S,
): Promise<S> {
  return new Promise<S>((resolve, reject) => {
    if (signal?.aborted) return reject(new Error('interrupted'))
    const socket = make()
    const giveUp = (why: string) => socket.destroy(new Error(why))
    const timer = setTimeout(giveUp, limitMs, 'no answer')
    const interrupt = () => giveUp('interrupted')
    const settle = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', interrupt)
      socket.off('error', fail)
      socket.off('close', fail)
    }
    const fail = (error?: Error | boolean) => {
      settle()
      socket.on('error', () => {}) // nobody listens for more
      socket.destroy()
      reject(error instanceof Error ? error : new Error('it closed the connection'))
    }
    signal?.addEventListener('abort', interrupt, { once: true })
    socket.once('error', fail)
    socket.once('close', fail)
    socket.once(event, () => {
      settle()
      resolve(socket)
    })
  })
}

/** The same, authenticated. @throws PeerError */
export async function connect(
  key: Key,
  host: string,
  port: number,
  options: ConnectOptions = {},
): Promise<tls.TLSSocket> {
  const plain = await connectPlain(host, port, options)
  try {
    return await once('secureConnect', options.signal, HANDSHAKE_MS, () =>
      tls.connect({
        ...common,
        socket: plain,
        pskCallback: () => ({ psk: key, identity: IDENTITY }),
        checkServerIdentity: () => undefined,
      } as tls.ConnectionOptions),
    )
  } catch (error) {
    plain.destroy()
    if (options.signal?.aborted) throw new PeerError('interrupted', { cause: error })
    throw new PeerError(`the imago at ${host}:${port} does not accept our key`, {
      found: (error as Error).message,
      hint: 'both sides need the same key file (--key)',
    })
  }
}
