/** Values of the options that the verbs of `vm` share. */
import { LARGEST_MEMORY, SMALLEST_MEMORY } from '../engines/microvm/layout.js'
import { UsageError } from '../lib/errors.js'
import { bytesText } from './output.js'

const units: Readonly<Record<string, number>> = { '': 1, k: 1 << 10, m: 1 << 20, g: 1 << 30 }

/** `64M`, `2G` → bytes, a multiple of 2 MiB. @throws UsageError */
export function memorySize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([kmg]?)i?b?$/i.exec(text)
  const size = match === null ? Number.NaN : Number(match[1]) * units[match[2]!.toLowerCase()]!
  const rounded = Math.ceil(size / (2 << 20)) * (2 << 20)
  if (!(rounded >= SMALLEST_MEMORY && rounded <= LARGEST_MEMORY))
    throw new UsageError(`'${text}' is no size for a guest`, {
      expected: `${bytesText(SMALLEST_MEMORY)} to ${bytesText(LARGEST_MEMORY)}, such as 64M`,
    })
  return rounded
}

const times: Readonly<Record<string, number>> = { ms: 1, s: 1000, '': 1000, m: 60_000, h: 3_600_000 }

/** `500ms`, `10s`, `5m` → milliseconds. @throws UsageError */
export function milliseconds(text: unknown): number | undefined {
  if (text === undefined) return undefined
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|)$/.exec(String(text))
  if (match === null) throw new UsageError(`'${text}' is no time`, { expected: 'a number and ms, s, m or h' })
  return Number(match[1]) * times[match[2]!]!
}

/** The guest's environment: little, and nothing of the user's unless given. @throws UsageError */
export function environmentOf(given: readonly string[] = []): string[] {
  for (const item of given)
    if (!/^[^=]+=/.test(item)) throw new UsageError(`'${item}' is no variable`, { expected: 'NAME=VALUE' })
  return ['PATH=/bin:/usr/bin', 'HOME=/', `TERM=${process.env.TERM ?? 'dumb'}`, ...given]
}

/** @throws UsageError */
export function portOf(text: string): number {
  const port = Number(text)
  if (!/^\d+$/.test(text) || port > 65535)
    throw new UsageError(`'${text}' is no port`, { expected: '0 to 65535' })
  return port
}

/** `host:4040`, `[::1]:4040`. @throws UsageError */
export function hostAndPort(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text)
  if (match === null)
    throw new UsageError(`'${text}' is no address`, { expected: 'HOST:PORT, such as 127.0.0.1:4040' })
  return { host: (match[1] ?? match[2])!, port: portOf(match[3]!) }
}
