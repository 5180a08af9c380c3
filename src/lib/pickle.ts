/**
 * Python pickles of plain data: dictionaries, lists, tuples, strings, numbers, booleans, None. Nothing is ever called:
 * a pickle that asks for a class (other than collections.OrderedDict, read as a dictionary) is refused.
 * Reads protocols 0 to 4, writes protocol 2 with byte strings, which Python 2 and 3 both load as `str`.
 * Source: Python's Lib/pickletools.py (the table of opcodes).
 */
import { UnreadableError } from './errors.js'

export type PickleValue =
  | string
  | bigint
  | number
  | boolean
  | null
  | PickleValue[]
  | Map<PickleValue, PickleValue>

const MAX_ITEMS = 10_000_000
const MARK = Symbol('mark')
const ORDERED_DICT = Symbol('collections.OrderedDict')
type Slot = PickleValue | typeof MARK | typeof ORDERED_DICT

/** @throws UnreadableError for a damaged pickle, or one that would run code. */
export function readPickle(bytes: Uint8Array, file?: string): PickleValue {
  return new Unpickler(bytes, file).read()
}

class Unpickler {
  readonly #bytes: Buffer
  readonly #file: string | undefined
  #at = 0
  readonly #stack: Slot[] = []
  readonly #memo = new Map<number, Slot>()

  constructor(bytes: Uint8Array, file: string | undefined) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#file = file
  }

  read(): PickleValue {
    for (;;) {
      const opcode = String.fromCharCode(this.#take(1)[0]!)
      if (opcode === '.') return this.#popValue()
      if (this.#stack.length > MAX_ITEMS) throw this.#error('too many items')
      const value = this.#step(opcode)
      if (value !== undefined) this.#stack.push(value)
    }
  }

  /** The value that an opcode puts on the stack; undefined for one that works on what is there. */
  #step(opcode: string): Slot | undefined {
    switch (opcode) {
      case '\x80':
        this.#take(1)
        return undefined
      case '\x95':
        this.#take(8)
        return undefined
      case '(':
        return MARK
      case ')':
        return []
      case ']':
        return []
      case '}':
        return new Map()
      case 'l':
      case 't':
        return this.#popMarked()
      case '\x85':
      case '\x86':
      case '\x87': {
        const count = opcode.charCodeAt(0) - 0x84
        const items = Array.from({ length: count }, () => this.#popValue()).reverse()
        return items
      }
      case 'd':
        return pairs(this.#popMarked())
      case 'N':
        return null
      case '\x88':
        return true
      case '\x89':
        return false
      case 'I': {
        const text = this.#line()
        return text === '01' ? true : text === '00' ? false : this.#integer(text)
      }
      case 'L':
        return this.#integer(this.#line().replace(/L$/, ''))
      case 'J':
        return BigInt(this.#take(4).readInt32LE())
      case 'K':
        return BigInt(this.#take(1)[0]!)
      case 'M':
        return BigInt(this.#take(2).readUInt16LE())
      case '\x8a':
        return littleEndian(this.#take(this.#take(1)[0]!))
      case 'F':
        return Number(this.#line())
      case 'G':
        return this.#take(8).readDoubleBE()
      case 'S':
        return quoted(this.#line())
      case 'V':
        return this.#line()
      case 'T':
      case 'B':
        return this.#take(this.#take(4).readUInt32LE()).toString('latin1')
      case 'U':
      case 'C':
        return this.#take(this.#take(1)[0]!).toString('latin1')
      case 'X':
        return this.#take(this.#take(4).readUInt32LE()).toString('utf8')
      case '\x8c':
        return this.#take(this.#take(1)[0]!).toString('utf8')
      case 'p':
        return this.#remember(Number(this.#line()))
      case 'q':
        return this.#remember(this.#take(1)[0]!)
      case 'r':
        return this.#remember(this.#take(4).readUInt32LE())
      case '\x94':
        return this.#remember(this.#memo.size)
      case 'g':
        return this.#recall(Number(this.#line()))
      case 'h':
        return this.#recall(this.#take(1)[0]!)
      case 'j':
        return this.#recall(this.#take(4).readUInt32LE())
      case '0':
        this.#pop()
        return undefined
      case 'a':
        this.#append(this.#popValue())
        return undefined
      case 'e': {
        const items = this.#popMarked()
        const target = this.#top()
        if (!Array.isArray(target)) throw this.#error('items for something that is no list')
        for (const item of items) target.push(item)
        return undefined
      }
      case 's': {
        const value = this.#popValue()
        const key = this.#popValue()
        this.#dictionary().set(key, value)
        return undefined
      }
      case 'u': {
        const items = pairs(this.#popMarked())
        const target = this.#dictionary()
        for (const [key, value] of items) target.set(key, value)
        return undefined
      }
      case 'c':
        return this.#class(this.#line(), this.#line())
      case '\x93': {
        const name = this.#popValue()
        return this.#class(String(this.#popValue()), String(name))
      }
      case 'R': {
        const given = this.#popValue()
        if (this.#pop() !== ORDERED_DICT) throw this.#error('a pickle that calls something')
        const entries = Array.isArray(given) && Array.isArray(given[0]) ? given[0] : []
        return new Map(entries.map(entry => (Array.isArray(entry) ? [entry[0]!, entry[1]!] : [entry, null])))
      }
      default:
        throw this.#error(`an opcode that is not known here (0x${opcode.charCodeAt(0).toString(16)})`)
    }
  }

  #class(module: string, name: string): Slot {
    if (module !== 'collections' || name !== 'OrderedDict')
      throw this.#error(`a pickle that needs the class ${module}.${name}`)
    return ORDERED_DICT
  }

  #append(item: PickleValue): void {
    const target = this.#top()
    if (!Array.isArray(target)) throw this.#error('an item for something that is no list')
    target.push(item)
  }

  #dictionary(): Map<PickleValue, PickleValue> {
    const target = this.#top()
    if (!(target instanceof Map)) throw this.#error('a key for something that is no dictionary')
    return target
  }

  #remember(index: number): undefined {
    this.#memo.set(index, this.#top())
    return undefined
  }

  #recall(index: number): Slot {
    const value = this.#memo.get(index)
    if (value === undefined) throw this.#error('a reference to something that was not there')
    return value
  }

  #top(): Slot {
    const value = this.#stack.at(-1)
    if (value === undefined) throw this.#error('nothing on the stack')
    return value
  }

  #pop(): Slot {
    const value = this.#top()
    this.#stack.pop()
    return value
  }

  #popValue(): PickleValue {
    const value = this.#pop()
    if (typeof value === 'symbol') throw this.#error('a mark where a value should be')
    return value
  }

  #popMarked(): PickleValue[] {
    const at = this.#stack.lastIndexOf(MARK)
    if (at < 0) throw this.#error('no mark on the stack')
    const items = this.#stack.splice(at).slice(1)
    return items.filter((item): item is PickleValue => typeof item !== 'symbol')
  }

  #take(count: number): Buffer {
    if (count > this.#bytes.length - this.#at) throw this.#error('truncated')
    this.#at += count
    return this.#bytes.subarray(this.#at - count, this.#at)
  }

  #line(): string {
    const end = this.#bytes.indexOf(10, this.#at)
    if (end < 0) throw this.#error('truncated')
    const text = this.#bytes.toString('latin1', this.#at, end)
    this.#at = end + 1
    return text
  }

  #integer(text: string): bigint {
    if (!/^-?\d{1,400}$/.test(text)) throw this.#error('a number that is none')
    return BigInt(text)
  }

  #error(message: string): UnreadableError {
    return new UnreadableError(`not a pickle of plain data: ${message}`, {
      file: this.#file,
      offset: this.#at,
    })
  }
}

function pairs(items: readonly PickleValue[]): Map<PickleValue, PickleValue> {
  const map = new Map<PickleValue, PickleValue>()
  for (let i = 0; i + 1 < items.length; i += 2) map.set(items[i]!, items[i + 1]!)
  return map
}

function littleEndian(bytes: Uint8Array): bigint {
  let value = 0n
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!)
  return BigInt.asIntN(bytes.length * 8, value)
}

/** Python's repr of a string, with its escapes. */
function quoted(text: string): string {
  const inner = text.trim().slice(1, -1)
  const escapes: Record<string, string> = { n: '\n', t: '\t', r: '\r' }
  return inner.replace(/\\(x[0-9a-fA-F]{2}|.)/g, (_, code: string) =>
    code.length === 3 ? String.fromCharCode(Number.parseInt(code.slice(1), 16)) : (escapes[code] ?? code),
  )
}

/** Nested dictionaries of strings, as `pickle.dump(…, 2)` of Python 2 would write them. */
export type StringTree = Map<string, string | StringTree>

export function writePickle(tree: StringTree): Uint8Array {
  const parts: Uint8Array[] = [Buffer.from([0x80, 2])]
  const string = (text: string) => {
    const bytes = Buffer.from(text, 'latin1')
    const head = bytes.length < 256 ? Buffer.from([0x55, bytes.length]) : Buffer.alloc(5, 0x54)
    if (bytes.length >= 256) head.writeUInt32LE(bytes.length, 1)
    parts.push(head, bytes)
  }
  const dictionary = (map: StringTree) => {
    parts.push(Buffer.from('}('))
    for (const [key, value] of map) {
      string(key)
      if (typeof value === 'string') string(value)
      else dictionary(value)
    }
    parts.push(Buffer.from('u'))
  }
  dictionary(tree)
  parts.push(Buffer.from('.'))
  return Buffer.concat(parts)
}
