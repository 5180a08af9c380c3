/**
 * The recipe of a recomposed image: a YAML file, or JSON, which is YAML too.
 *
 *   images:                       where pages come from; the first is the base unless `base` says otherwise
 *     NAME: PATH                  or { path, binary, process }: `binary` gives sections where the image's path does not
 *   base: NAME                    registers, files, mappings and all that no region names come from this one
 *   regions:                      in order; a page belongs to the first region that names it
 *     - region: .data             a section, heap, stack, vdso, vvar (or a list of these)
 *       pages: 2-134              or pages of the base, as `imago pages` numbers them
 *       address: 0x400000-0x401000  or addresses
 *       zero: true | copy: NAME | template: NAME | drop: true        one of these, or none: as in the base
 *       source: …                 with copy: where in NAME, as for region; the same name there when left out
 *       patch:
 *         - { offset: 0x270, value: 0x1234, size: 8 }                a number, little endian
 *         - { offset: 0x270, bytes: "de ad be ef" }
 *         - { offset: 0x270, from: NAME, length: 8 }                 the bytes of NAME's region at that offset
 *   registers: { rip: 0x401000 }  of the main thread; or NAME: all registers of all threads
 *   files: { OLD: NEW }           paths that are called otherwise where the image goes
 *
 * Paths are relative to the recipe's folder.
 */
import fs from 'node:fs'
import path from 'node:path'
import { parse, YAMLParseError } from 'yaml'
import { UnreadableError } from '../lib/errors.js'
import { limits } from '../lib/limits.js'

/** Where a region is: by name, by pages of the image's files, or by address. */
export type Selector =
  | { readonly by: 'name'; readonly names: readonly string[] }
  | { readonly by: 'pages'; readonly first: number; readonly last: number }
  | { readonly by: 'address'; readonly start: bigint; readonly end: bigint }

export type Action =
  | { readonly kind: 'keep' | 'zero' | 'drop' }
  | { readonly kind: 'copy'; readonly image: string; readonly source: Selector | undefined }
  | { readonly kind: 'template'; readonly image: string }

export interface Patch {
  /** Bytes from the beginning of the region. */
  readonly offset: number
  readonly content:
    | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
    | { readonly kind: 'from'; readonly image: string; readonly length: number }
}

export interface RegionRule {
  readonly where: Selector
  readonly action: Action
  readonly patches: readonly Patch[]
  /** `regions[2]`, for messages. */
  readonly place: string
}

export interface RecipeImage {
  readonly path: string
  readonly binary: string | undefined
  readonly process: number | undefined
}

export interface Recipe {
  readonly images: ReadonlyMap<string, RecipeImage>
  readonly base: string
  readonly regions: readonly RegionRule[]
  readonly registers: string | ReadonlyMap<string, bigint> | undefined
  readonly files: ReadonlyMap<string, string>
}

const WORD = 8
/** A recipe is written by hand: anything larger is something else. */
const RECIPE_BYTES = 1024 * 1024

/** @throws UnreadableError that names the place in the recipe. */
export function readRecipe(file: string): Recipe {
  let text: string
  try {
    if (fs.statSync(file).size > RECIPE_BYTES)
      throw new UnreadableError('too large for a recipe', { file, expected: `at most ${RECIPE_BYTES} bytes` })
    text = fs.readFileSync(file, 'utf8')
  } catch (error) {
    if (error instanceof UnreadableError) throw error
    throw new UnreadableError('cannot open the recipe', {
      file,
      cause: error,
      found: (error as Error).message,
    })
  }
  return parseRecipe(text, path.dirname(path.resolve(file)), file)
}

/** @param folder what its paths are relative to. @throws UnreadableError with the place in the recipe. */
export function parseRecipe(text: string, folder: string, file?: string): Recipe {
  let value: unknown
  try {
    value = parse(text, { intAsBigInt: true, maxAliasCount: 10, logLevel: 'error' })
  } catch (error) {
    if (!(error instanceof YAMLParseError) && !(error instanceof ReferenceError)) throw error
    throw new UnreadableError('the recipe is not YAML', { file, found: error.message.split('\n')[0]! })
  }
  return new RecipeReader(file).recipe(value, folder)
}

type Fields = Readonly<Record<string, unknown>>

/** Every method checks one kind of value; `place` is where it stands, for messages. */
class RecipeReader {
  readonly #file: string | undefined

  constructor(file: string | undefined) {
    this.#file = file
  }

  #fail(place: string, found: unknown, expected: string): never {
    throw new UnreadableError(`the recipe's ${place} is wrong`, {
      file: this.#file,
      found: show(found),
      expected,
    })
  }

  recipe(value: unknown, folder: string): Recipe {
    const fields = this.#fields('top', value, ['images', 'base', 'regions', 'registers', 'files'])
    const images = new Map<string, RecipeImage>()
    for (const [name, image] of Object.entries(this.#anyFields('images', fields.images)))
      images.set(name, this.#image(`images.${name}`, image, folder))
    if (images.size === 0) this.#fail('images', fields.images, 'at least one image: NAME: PATH')
    const known = (place: string, name: unknown) => {
      const text = this.#text(place, name)
      if (!images.has(text)) this.#fail(place, text, `one of ${[...images.keys()].join(', ')}`)
      return text
    }
    const base = fields.base === undefined ? [...images.keys()][0]! : known('base', fields.base)
    const list = fields.regions ?? []
    if (!Array.isArray(list)) this.#fail('regions', list, 'a list')
    return {
      images,
      base,
      regions: (list as unknown[]).map((rule, i) => this.#rule(`regions[${i}]`, rule, known)),
      registers: this.#registers(fields.registers, known),
      files: new Map(
        Object.entries(fields.files === undefined ? {} : this.#anyFields('files', fields.files)).map(
          ([from, to]) => [from, this.#text(`files.${from}`, to)],
        ),
      ),
    }
  }

  #image(place: string, value: unknown, folder: string): RecipeImage {
    if (typeof value === 'string')
      return { path: path.resolve(folder, value), binary: undefined, process: undefined }
    const fields = this.#fields(place, value, ['path', 'binary', 'process'])
    const binary = fields.binary === undefined ? undefined : this.#text(`${place}.binary`, fields.binary)
    return {
      path: path.resolve(folder, this.#text(`${place}.path`, fields.path)),
      binary: binary && path.resolve(folder, binary),
      process: fields.process === undefined ? undefined : this.#count(`${place}.process`, fields.process),
    }
  }

  #rule(place: string, value: unknown, known: (place: string, name: unknown) => string): RegionRule {
    const selectors = ['region', 'pages', 'address']
    const fields = this.#fields(place, value, [
      ...selectors,
      'zero',
      'drop',
      'copy',
      'template',
      'source',
      'patch',
    ])
    const actions = ['zero', 'drop', 'copy', 'template'].filter(name => fields[name] !== undefined)
    if (actions.length > 1) this.#fail(place, actions.join(' and '), 'one of zero, copy, template, drop')
    const [kind] = actions
    let action: Action = { kind: 'keep' }
    if (kind === 'zero' || kind === 'drop') {
      if (fields[kind] !== true) this.#fail(`${place}.${kind}`, fields[kind], 'true')
      action = { kind }
    } else if (kind === 'template') action = { kind, image: known(`${place}.template`, fields.template) }
    else if (kind === 'copy') {
      const source =
        fields.source === undefined
          ? undefined
          : typeof fields.source === 'string'
            ? ({ by: 'name', names: [fields.source] } as const)
            : this.#selector(`${place}.source`, this.#fields(`${place}.source`, fields.source, selectors))
      action = { kind, image: known(`${place}.copy`, fields.copy), source }
    }
    if (fields.source !== undefined && kind !== 'copy')
      this.#fail(`${place}.source`, fields.source, 'nothing without copy')
    const patches = fields.patch ?? []
    if (!Array.isArray(patches)) this.#fail(`${place}.patch`, patches, 'a list')
    return {
      place,
      where: this.#selector(place, fields),
      action,
      patches: (patches as unknown[]).map((patch, i) => this.#patch(`${place}.patch[${i}]`, patch, known)),
    }
  }

  #selector(place: string, fields: Fields): Selector {
    const given = ['region', 'pages', 'address'].filter(name => fields[name] !== undefined)
    if (given.length !== 1)
      this.#fail(place, given.join(' and ') || 'none of them', 'one of region, pages, address')
    if (given[0] === 'region') {
      const names = Array.isArray(fields.region) ? (fields.region as unknown[]) : [fields.region]
      return { by: 'name', names: names.map(name => this.#text(`${place}.region`, name)) }
    }
    const [first, last = first] = this.#range(`${place}.${given[0]}`, fields[given[0]!])
    if (given[0] === 'address') {
      if (last! <= first! || last! > limits.userAddressEnd || ((first! | last!) & 0xfffn) !== 0n)
        this.#fail(`${place}.address`, fields.address, 'START-END on page borders, END not included')
      return { by: 'address', start: first!, end: last! }
    }
    if (last! < first!) this.#fail(`${place}.pages`, fields.pages, 'FIRST-LAST')
    return { by: 'pages', first: Number(first), last: Number(last) }
  }

  /** `7`, or `2-134` in either base. */
  #range(place: string, value: unknown): bigint[] {
    if (typeof value === 'bigint' && value >= 0n) return [value]
    const match = /^\s*(0x[0-9a-f]+|\d+)\s*-\s*(0x[0-9a-f]+|\d+)\s*$/i.exec(String(value))
    if (match === null) this.#fail(place, value, 'a number or FIRST-LAST')
    return [BigInt(match[1]!), BigInt(match[2]!)]
  }

  #patch(place: string, value: unknown, known: (place: string, name: unknown) => string): Patch {
    const fields = this.#fields(place, value, ['offset', 'value', 'size', 'bytes', 'from', 'length'])
    const offset = this.#count(`${place}.offset`, fields.offset)
    const given = ['value', 'bytes', 'from'].filter(name => fields[name] !== undefined)
    if (given.length !== 1)
      this.#fail(place, given.join(' and ') || 'none of them', 'one of value, bytes, from')
    if (given[0] === 'from')
      return {
        offset,
        content: {
          kind: 'from',
          image: known(`${place}.from`, fields.from),
          length: fields.length === undefined ? WORD : this.#count(`${place}.length`, fields.length),
        },
      }
    if (given[0] === 'bytes') {
      const digits = this.#text(`${place}.bytes`, fields.bytes).replace(/[\s:]/g, '')
      if (!/^(?:[0-9a-f]{2})+$/i.test(digits))
        this.#fail(`${place}.bytes`, fields.bytes, 'pairs of hexadecimal digits')
      return { offset, content: { kind: 'bytes', bytes: Buffer.from(digits, 'hex') } }
    }
    const size = fields.size === undefined ? WORD : this.#count(`${place}.size`, fields.size)
    const number = this.#number(`${place}.value`, fields.value)
    if (![1, 2, 4, 8].includes(size) || number >> BigInt(size * 8) !== 0n)
      this.#fail(place, fields.size ?? fields.value, 'a value that fits into size: 1, 2, 4 or 8 bytes')
    const bytes = new Uint8Array(WORD)
    new DataView(bytes.buffer).setBigUint64(0, number, true)
    return { offset, content: { kind: 'bytes', bytes: bytes.subarray(0, size) } }
  }

  #registers(value: unknown, known: (place: string, name: unknown) => string): Recipe['registers'] {
    if (value === undefined) return undefined
    if (typeof value === 'string') return known('registers', value)
    return new Map(
      Object.entries(this.#anyFields('registers', value)).map(([name, number]) => [
        name,
        this.#number(`registers.${name}`, number),
      ]),
    )
  }

  #anyFields(place: string, value: unknown): Fields {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      this.#fail(place, value, 'NAME: VALUE pairs')
    return value as Fields
  }

  #fields(place: string, value: unknown, allowed: readonly string[]): Fields {
    const fields = this.#anyFields(place, value)
    for (const name of Object.keys(fields))
      if (!allowed.includes(name)) this.#fail(place, name, `only ${allowed.join(', ')}`)
    return fields
  }

  #text(place: string, value: unknown): string {
    if (typeof value !== 'string') this.#fail(place, value, 'a text')
    return value
  }

  #number(place: string, value: unknown): bigint {
    if (typeof value !== 'bigint' || value < 0n) this.#fail(place, value, 'a number')
    return value
  }

  #count(place: string, value: unknown): number {
    const number = this.#number(place, value)
    if (number > BigInt(limits.recordBytes)) this.#fail(place, value, `at most ${limits.recordBytes}`)
    return Number(number)
  }
}

function show(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'string') return value
  return JSON.stringify(value, (_, item) => (typeof item === 'bigint' ? Number(item) : item)) ?? String(value)
}
