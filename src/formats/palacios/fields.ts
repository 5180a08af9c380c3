/**
 * The contexts of a checkpoint as fields by name: `guest/RIP`, `pit/PIT_CH0_COUNTER`, `apic/INT_REQ_REG0`. Contexts are
 * found by a tag that only they have, since device ids are the user's choice. Up to 8 bytes are an integer.
 */
import { LossError, UnreadableError } from '../../lib/errors.js'
import type { RawFields, RawValue } from '../machine-table.js'
import { signatures, tagLengths } from './layout.js'
import type { Context, TagRecord } from './records.js'

export interface PalaciosTiming {
  /** Clock of the local APIC's timer, which Palacios runs at the CPU's frequency. */
  readonly apicClock: number
  /** Which of the control registers are the guest's; undefined: told from their values. */
  readonly paging: 'shadow' | 'nested' | undefined
}

export class PalaciosFields implements RawFields {
  readonly contexts: readonly Context[]
  readonly timing: PalaciosTiming
  readonly #records = new Map<string, Map<string, TagRecord>>()
  readonly #keys = new Map<string, string>()

  /** @throws UnreadableError without a core; LossError for more than one. */
  constructor(contexts: readonly Context[], timing: PalaciosTiming, file?: string) {
    this.contexts = contexts
    this.timing = timing
    for (const [role, signature] of Object.entries(signatures)) {
      const found = contexts.filter(({ records }) => records.some(({ tag }) => tag === signature))
      if (found.length === 0) continue
      if (role === 'guest' && found.length > 1)
        throw new LossError(`${found.length} cores: machines of one CPU only`, { file })
      this.#keys.set(role, found[0]!.key)
      const records = new Map<string, TagRecord>()
      // The first record of a tag is the one that Palacios finds.
      for (const record of found[0]!.records) if (!records.has(record.tag)) records.set(record.tag, record)
      this.#records.set(role, records)
    }
    if (!this.#records.has('guest'))
      throw new UnreadableError('no core in this checkpoint', {
        file,
        expected: 'a context guest_info0 with RIP',
        hint: "save without mask 4: 'v3_save … 1' leaves only the memory out",
      })
  }

  has(role: string): boolean {
    return this.#records.has(role)
  }

  /** Keys of contexts that have a role. */
  get understood(): ReadonlySet<string> {
    return new Set([...this.#keys.values(), 'devices', 'header'])
  }

  /** The CONFIG_SPACE of each PCI function by its address, `00:01.1`. */
  pciFunctions(): Map<string, TagRecord> {
    const functions = new Map<string, TagRecord>()
    const hex = (decimal: string) => Number(decimal).toString(16).padStart(2, '0')
    for (const { key, records } of this.contexts) {
      const match = /-(\d{1,3})\.(\d{1,2})-([0-7])$/.exec(key)
      const record = match && records.find(({ tag }) => tag === 'CONFIG_SPACE')
      if (match && record) functions.set(`${hex(match[1]!)}:${hex(match[2]!)}.${match[3]}`, record)
    }
    return functions
  }

  bytes(name: string): Uint8Array | undefined {
    const slash = name.indexOf('/')
    const tag = name.slice(slash + 1)
    const data = this.#records.get(name.slice(0, slash))?.get(tag)?.data
    const known = tagLengths.get(tag)
    // Bytes beyond the length are left over from an older, longer file.
    return data === undefined || known === undefined ? data : data.subarray(0, known)
  }

  get(name: string): RawValue | undefined {
    const bytes = this.bytes(name)
    if (bytes === undefined || bytes.length > 8) return bytes
    let value = 0n
    for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!)
    return value
  }

  integer(name: string): bigint {
    const value = this.get(name)
    return typeof value === 'bigint' ? value : 0n
  }

  /** Values keep the length that the checkpoint has for them; tags that it lacks are left out. */
  set(name: string, value: RawValue): void {
    const slash = name.indexOf('/')
    const record = this.#records.get(name.slice(0, slash))?.get(name.slice(slash + 1))
    if (record === undefined) return
    const length = Math.min(record.data.length, tagLengths.get(record.tag) ?? record.data.length)
    const bytes = new Uint8Array(length)
    if (value instanceof Uint8Array) bytes.set(value.subarray(0, length))
    else if (typeof value === 'bigint') {
      let rest = BigInt.asUintN(64, value)
      for (let i = 0; i < length; i++, rest >>= 8n) bytes[i] = Number(rest & 0xffn)
    }
    if (Buffer.compare(bytes, record.data) === 0) return
    record.data = bytes
    record.text = undefined
  }
}
