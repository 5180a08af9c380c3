/**
 * A gem5 checkpoint as fields by name, the same for all layouts that gem5 has had:
 *
 *   isa.regVal[100]       role, key, element            pit.pit.counter0.mode      role, key
 *
 *   role      section, v24 (2011)                                        what
 *   globals   root.globals (Globals)                                     curTick, version_tags
 *   cpu, xc   system.cpu, system.cpu.xc.0                                counters; registers, status
 *   isa       system.cpu.isa (system.cpu.xc.0)                           regVal: control registers, MSRs, segments
 *   apic      system.cpu.xc.0 and .interrupts (system.cpu and .interrupts)   both copies are kept equal
 *   pit, pic1, pic2, ioApic, cmos, speaker, keyboard                     system.pc.south_bridge.…
 *   ps2Keyboard, ps2Mouse   system.pc.south_bridge.keyboard.…            (v24 only)
 *   ide       system.pc.south_bridge.ide                                 PCI configuration; there are no disks
 *   com       system.pc.com_1
 *
 * Registers by class are `xc.integer[i]`, `xc.float[i]`, `xc.condition[i]`, 64 bits each, whether the file holds lists
 * of bytes (`regs.integer`, v22 on) or of numbers (`intRegs`, `floatRegs.i`, `ccRegs` before).
 * Boards of gem5's standard library say `board.` for `system.` and `board.processor.cores.core` for `system.cpu`.
 */
import { LossError, UnreadableError } from '../../lib/errors.js'
import type { RawFields, RawValue } from '../machine-table.js'
import type { CheckpointText } from './checkpoint-text.js'

const registerKeys: Readonly<Record<string, readonly [bytes: string, words: string]>> = {
  integer: ['regs.integer', 'intRegs'],
  float: ['regs.floating_point', 'floatRegs.i'],
  condition: ['regs.condition_code', 'ccRegs'],
}

/** No list of a real checkpoint is longer; SE page tables are sections, not lists. */
const MAX_ELEMENTS = 1 << 16

export class Gem5Fields implements RawFields {
  readonly text: CheckpointText
  /** The 2011 layout: flags in integer register 32, `regVal` in the thread's section, absolute PIT events. */
  readonly is2011: boolean
  readonly roles: Readonly<Record<string, readonly string[]>>
  /** `system.cpu`, or the core of a standard-library board. */
  readonly cpu: string
  readonly #lists = new Map<string, bigint[]>()
  readonly #changed = new Set<string>()

  /** @throws UnreadableError for a text without a running CPU; LossError for more than one. */
  constructor(text: CheckpointText, file?: string) {
    this.text = text
    const names = text.names()
    const threads = names.filter(
      name =>
        name.endsWith('.xc.0') && (text.get(name, 'regs.integer') ?? text.get(name, 'intRegs')) !== undefined,
    )
    if (threads.length === 0)
      throw new UnreadableError('no CPU with an x86 thread in this checkpoint', {
        file,
        expected: 'a section such as [system.cpu.xc.0] with regs.integer or intRegs',
      })
    if (threads.length > 1)
      throw new LossError(`${threads.length} CPUs: machines of one CPU only`, {
        file,
        found: threads.join(', '),
      })
    const xc = threads[0]!
    const cpu = xc.slice(0, -'.xc.0'.length)
    this.cpu = cpu
    this.is2011 = text.get(xc, 'regVal') !== undefined
    const ending = (suffix: string) => names.filter(name => name.endsWith(suffix)).slice(0, 1)
    this.roles = {
      globals: names.filter(name => text.get(name, 'curTick') !== undefined).slice(0, 1),
      cpu: [cpu],
      xc: [xc],
      isa: this.is2011
        ? [xc]
        : names.filter(name => name.startsWith(`${cpu}.isa`) && text.get(name, 'regVal') !== undefined),
      apic: names.filter(
        name =>
          (name === xc || name === cpu || name.startsWith(`${cpu}.interrupts`)) &&
          text.get(name, 'IRRV') !== undefined,
      ),
      pit: ending('.south_bridge.pit'),
      pic1: ending('.south_bridge.pic1'),
      pic2: ending('.south_bridge.pic2'),
      ioApic: ending('.south_bridge.io_apic'),
      cmos: ending('.south_bridge.cmos'),
      speaker: ending('.south_bridge.speaker'),
      keyboard: ending('.south_bridge.keyboard'),
      ps2Keyboard: ending('.keyboard.keyboard'),
      ps2Mouse: ending('.keyboard.mouse'),
      ide: ending('.south_bridge.ide'),
      com: ending('.pc.com_1'),
    }
    if (this.roles.globals!.length === 0) throw new UnreadableError('no curTick in this checkpoint', { file })
    if (this.roles.isa!.length === 0)
      throw new UnreadableError('no regVal: this is no x86 checkpoint', { file })
  }

  has(role: string): boolean {
    return (this.roles[role]?.length ?? 0) > 0
  }

  get(name: string): RawValue | undefined {
    const { role, key, index } = parseName(name)
    if (index !== undefined) return this.#list(role, key)?.[index]
    if (registerKeys[key] && role === 'xc') return this.#list(role, key)
    const text = this.string(role, key)
    if (text === undefined) return undefined
    if (text.includes(' ') || text === '') return this.#list(role, key)
    return parseScalar(text, name)
  }

  /** The raw text of a value. */
  string(role: string, key: string): string | undefined {
    const [section] = this.roles[role] ?? []
    return section === undefined ? undefined : this.text.get(section, key)
  }

  setString(role: string, key: string, value: string): void {
    for (const section of this.roles[role] ?? []) this.text.set(section, key, value)
  }

  /** Keeps what a key looks like: a flag stays `true` or `false`. Devices that the layout lacks are left out. */
  set(name: string, value: RawValue): void {
    const { role, key, index } = parseName(name)
    if (!this.has(role)) return
    if (index !== undefined) {
      const list = this.#list(role, key)
      if (list === undefined || index >= list.length) return
      list[index] = value as bigint
      this.#changed.add(`${role} ${key}`)
    } else if (typeof value === 'bigint') {
      const old = this.string(role, key)
      const isFlag = old === 'true' || old === 'false'
      this.setString(role, key, isFlag ? (value ? 'true' : 'false') : value.toString())
    } else {
      this.#lists.set(`${role} ${key}`, [...value].map(BigInt))
      this.#changed.add(`${role} ${key}`)
    }
  }

  /** Writes the lists that were changed into the text. */
  flush(): void {
    for (const id of this.#changed) {
      const [role, key] = id.split(' ') as [string, string]
      const list = this.#lists.get(id)!
      const place = this.#placeOf(role, key)
      this.setString(role, place.key, place.asBytes ? byteText(list) : this.#listText(role, key, list))
    }
    this.#changed.clear()
  }

  #listText(role: string, key: string, list: readonly bigint[]): string {
    const old = this.string(role, key) ?? ''
    if (/^(true|false)\b/.test(old)) return list.map(each => (each ? 'true' : 'false')).join(' ')
    return list.join(' ')
  }

  #placeOf(role: string, key: string): { key: string; asBytes: boolean } {
    const names = role === 'xc' ? registerKeys[key] : undefined
    if (names === undefined) return { key, asBytes: false }
    const asBytes = this.string(role, names[0]) !== undefined
    return { key: asBytes ? names[0] : names[1], asBytes }
  }

  #list(role: string, key: string): bigint[] | undefined {
    const id = `${role} ${key}`
    const known = this.#lists.get(id)
    if (known !== undefined) return known
    const place = this.#placeOf(role, key)
    const text = this.string(role, place.key)
    if (text === undefined) return undefined
    const words = text === '' ? [] : text.split(/\s+/)
    if (words.length > MAX_ELEMENTS)
      throw new UnreadableError(`'${key}' has too many elements`, { found: words.length })
    const numbers = words.map(word => parseScalar(word, `${role}.${key}`))
    const list = place.asBytes ? wordsOfBytes(numbers, key) : numbers
    this.#lists.set(id, list)
    return list
  }
}

/** `isa.regVal[100]` → role isa, key regVal, index 100. */
function parseName(name: string): { role: string; key: string; index: number | undefined } {
  const dot = name.indexOf('.')
  const bracket = name.endsWith(']') ? name.lastIndexOf('[') : -1
  return {
    role: name.slice(0, dot),
    key: name.slice(dot + 1, bracket < 0 ? undefined : bracket),
    index: bracket < 0 ? undefined : Number(name.slice(bracket + 1, -1)),
  }
}

function parseScalar(text: string, name: string): bigint {
  if (text === 'true') return 1n
  if (text === 'false') return 0n
  if (!/^-?(\d{1,30}|0x[0-9a-fA-F]{1,24})$/.test(text))
    throw new UnreadableError(`'${name}' is no number`, { found: JSON.stringify(text.slice(0, 40)) })
  return BigInt.asUintN(64, text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text))
}

function wordsOfBytes(bytes: readonly bigint[], key: string): bigint[] {
  if (bytes.length % 8 !== 0)
    throw new UnreadableError(`'${key}' is no list of 8-byte registers`, { found: `${bytes.length} bytes` })
  const words: bigint[] = []
  for (let i = 0; i < bytes.length; i += 8) {
    let word = 0n
    for (let j = 7; j >= 0; j--) word = (word << 8n) | (bytes[i + j]! & 0xffn)
    words.push(word)
  }
  return words
}

function byteText(words: readonly bigint[]): string {
  const bytes: bigint[] = []
  for (const word of words) for (let j = 0n; j < 64n; j += 8n) bytes.push((word >> j) & 0xffn)
  return bytes.join(' ')
}
