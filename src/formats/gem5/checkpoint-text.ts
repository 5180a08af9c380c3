/**
 * `m5.cpt`: the text of a gem5 checkpoint, and of gem5's `config.ini`.
 *
 *   ## checkpoint generated: Sat Nov 21 00:56:04 2026      ← anything before the first section is ignored
 *
 *   [system.cpu.xc.0]                                      ← path of the simulated object; may be opened again
 *   _pc=1050497                                            ← first `=` splits; `key+=value` appends after a blank
 *
 * Every line is kept as it is, so that reading and writing give the same bytes; a section finds its keys when it is
 * first asked. Source: gem5 src/base/inifile.cc, src/sim/serialize.cc.
 */
import fs from 'node:fs'
import { FileSource } from '../../lib/byte-source.js'
import { UnreadableError } from '../../lib/errors.js'
import { limits } from '../../lib/limits.js'

const CHUNK_BYTES = 1 << 20
/** Bytes of a whole checkpoint's text; Linux on many cores has a few MB. */
const MAX_TEXT_BYTES = 1 << 30

/** Each line is a string: so many of the shortest take 1 GB. A process of 4 GB has 5 million for its page table. */
const MAX_LINES = 12_000_000

/** One `[name]` with its lines. */
export class Section {
  readonly name: string
  /** The heading, then lines as in the file, blank ones too. */
  readonly lines: string[]
  #index: Map<string, number[]> | undefined

  constructor(name: string, heading = `[${name}]`) {
    this.name = name
    this.lines = [heading]
  }

  #keys(): Map<string, number[]> {
    if (this.#index === undefined) {
      this.#index = new Map()
      for (let i = 1; i < this.lines.length; i++) {
        const line = this.lines[i]!
        const split = line.indexOf('=')
        if (split < 0) continue
        const key = line.slice(0, line[split - 1] === '+' ? split - 1 : split).trim()
        const at = this.#index.get(key)
        if (line[split - 1] === '+' && at !== undefined) at.push(i)
        else this.#index.set(key, [i])
      }
    }
    return this.#index
  }

  keys(): IterableIterator<string> {
    return this.#keys().keys()
  }

  get(key: string): string | undefined {
    const at = this.#keys().get(key)
    if (at === undefined) return undefined
    return at.map(i => this.lines[i]!.slice(this.lines[i]!.indexOf('=') + 1).trim()).join(' ')
  }

  /** Replaces the value, or adds the key behind the last one. */
  set(key: string, value: string): void {
    const at = this.#keys().get(key)
    if (at === undefined) {
      let end = this.lines.length
      while (end > 1 && this.lines[end - 1]!.trim() === '') end--
      this.lines.splice(end, 0, `${key}=${value}`)
      this.#index = undefined
    } else if (this.get(key) !== value) {
      this.lines[at[0]!] = `${key}=${value}`
      for (const i of at.slice(1)) this.lines[i] = ''
      this.#keys().set(key, [at[0]!])
    }
  }
}

/** The sections of an m5.cpt, in their order, with what is not understood. */
export class CheckpointText {
  /** Lines before the first section. */
  readonly preamble: string[] = []
  /** In the order of the file; a re-opened section is there twice. */
  #sections: Section[] = []
  readonly #byName = new Map<string, Section[]>()

  get sections(): readonly Section[] {
    return this.#sections
  }

  has(section: string): boolean {
    return this.#byName.has(section)
  }

  names(): string[] {
    return [...this.#byName.keys()]
  }

  /** The value of a key; the last opening of a section wins. */
  get(section: string, key: string): string | undefined {
    const parts = this.#byName.get(section)
    if (parts === undefined) return undefined
    for (let i = parts.length - 1; i >= 0; i--) {
      const value = parts[i]!.get(key)
      if (value !== undefined) return value
    }
    return undefined
  }

  set(section: string, key: string, value: string): void {
    let parts = this.#byName.get(section)
    if (parts === undefined) {
      // A blank line stands between sections, as gem5 writes them.
      const last = this.#sections.at(-1)?.lines ?? this.preamble
      if (last.at(-1) === '') last.pop()
      last.push('')
      parts = [this.#open(new Section(section))]
      parts[0]!.lines.push('')
    }
    const holder = parts.findLast(part => part.get(key) !== undefined) ?? parts.at(-1)!
    holder.set(key, value)
  }

  keys(section: string): string[] {
    return (this.#byName.get(section) ?? []).flatMap(part => [...part.keys()])
  }

  /** Takes sections out, headings and all. */
  remove(matches: (name: string) => boolean): void {
    this.#sections = this.#sections.filter(section => !matches(section.name))
    for (const name of [...this.#byName.keys()]) if (matches(name)) this.#byName.delete(name)
  }

  #open(section: Section): Section {
    this.#sections.push(section)
    const same = this.#byName.get(section.name)
    if (same === undefined) this.#byName.set(section.name, [section])
    else same.push(section)
    return section
  }

  /** @throws UnreadableError with the line number for a line that gem5 would not accept either. */
  static parse(chunks: Iterable<Buffer>, file?: string): CheckpointText {
    const text = new CheckpointText()
    let lines = text.preamble
    let number = 0
    let inSection = false
    const line = (raw: string) => {
      number++
      let at = 0
      while (raw.charCodeAt(at) <= 32) at++ // NaN past the end ends it
      if (raw.charCodeAt(at) === 0x5b) {
        const end = raw.lastIndexOf(']')
        if (end < at || raw.slice(end + 1).trim() !== '')
          throw new UnreadableError(`line ${number}: a section's name does not end with ]`, {
            file,
            found: JSON.stringify(raw.slice(0, 80)),
          })
        lines = text.#open(new Section(raw.slice(at + 1, end), raw)).lines
        inSection = true
        return
      }
      if (inSection && at < raw.length && raw.indexOf('=', at) < 0)
        throw new UnreadableError(`line ${number} of a checkpoint is neither a section nor key=value`, {
          file,
          found: JSON.stringify(raw.slice(0, 80)),
        })
      lines.push(raw)
    }
    let carry = ''
    for (const chunk of chunks) {
      const parts = (carry + chunk.toString('latin1')).split('\n')
      carry = parts.pop()!
      if (carry.length > limits.lineBytes)
        throw new UnreadableError(`line ${number + parts.length + 1} is too long`, {
          file,
          expected: `at most ${limits.lineBytes} bytes`,
        })
      if (number + parts.length > MAX_LINES)
        throw new UnreadableError('too many lines for the text of a checkpoint', {
          file,
          expected: `at most ${MAX_LINES}`,
        })
      for (const part of parts) line(part)
    }
    line(carry)
    return text
  }

  static fromString(text: string): CheckpointText {
    return CheckpointText.parse([Buffer.from(text, 'latin1')])
  }

  static read(path: string): CheckpointText {
    const source = new FileSource(path)
    try {
      if (source.size > MAX_TEXT_BYTES)
        throw new UnreadableError('too large for the text of a checkpoint', {
          file: path,
          found: `${source.size} bytes`,
        })
      return CheckpointText.parse(chunksOf(source), path)
    } finally {
      source.close()
    }
  }

  toString(): string {
    return [this.preamble, ...this.#sections.map(section => section.lines)]
      .filter(lines => lines.length > 0)
      .map(lines => lines.join('\n'))
      .join('\n')
  }

  write(path: string): void {
    fs.writeFileSync(path, this.toString(), 'latin1')
  }
}

function* chunksOf(source: FileSource): Generator<Buffer> {
  for (let at = 0; at < source.size; at += CHUNK_BYTES) {
    const bytes = source.read(at, Math.min(CHUNK_BYTES, source.size - at))
    yield Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  }
}
