/**
 * How the neutral machine is described: a schema is a tree of leaves (integers, flags, durations, bytes), lists and
 * groups. The TypeScript types, the reset state, comparison, loss reports, `inspect` and the random machines of the
 * tests are all made from the same schema (`machine.ts` holds it), so that a field added there is seen everywhere.
 *
 *   integer up to 32 bits → number     wider → bigint     flag → boolean     bytes → Uint8Array
 *   duration → bigint picoseconds, undefined when the timer is not running
 */

export interface Leaf<V> {
  readonly kind: 'integer' | 'flag' | 'duration' | 'bytes' | 'frequency'
  /** Width of an integer; most bytes of a byte string. */
  readonly width: number
  /** True when an image may not say it: the value is then undefined. */
  readonly optional: boolean
  /** The value after a reset of the machine. */
  readonly initial: V
}
export interface List<S> {
  readonly length: number
  readonly of: S
}
export interface Optional<S> {
  readonly optionalGroup: S
}

/** The type of the values that a schema describes. */
export type Value<S> =
  S extends Leaf<infer V>
    ? V
    : S extends List<infer E>
      ? Value<E>[]
      : S extends Optional<infer G>
        ? Value<G> | undefined
        : { [K in keyof S]: Value<S[K]> }

const integer = (width: number, initial: number): Leaf<number> => ({
  kind: 'integer',
  width,
  optional: false,
  initial,
})
const wide = (width: number, initial: bigint): Leaf<bigint> => ({
  kind: 'integer',
  width,
  optional: false,
  initial,
})
export const u8 = (initial = 0) => integer(8, initial)
export const u16 = (initial = 0) => integer(16, initial)
export const u32 = (initial = 0) => integer(32, initial)
export const bits = (width: number, initial = 0) => integer(width, initial)
export const u64 = (initial = 0n) => wide(64, initial)
/** An x87 extended-precision number: 64 bits of mantissa, above them 15 of exponent and the sign. */
export const u80 = (initial = 0n) => wide(80, initial)
export const u128 = (initial = 0n) => wide(128, initial)
export const flag = (initial = false): Leaf<boolean> => ({
  kind: 'flag',
  width: 1,
  optional: false,
  initial,
})
/** Time left until something happens, in picoseconds; undefined: it will not happen. */
export const duration = (): Leaf<bigint | undefined> => ({
  kind: 'duration',
  width: 63,
  optional: true,
  initial: undefined,
})
export const frequency = (): Leaf<number | undefined> => ({
  kind: 'frequency',
  width: 53,
  optional: true,
  initial: undefined,
})
export const byteString = (most: number): Leaf<Uint8Array> => ({
  kind: 'bytes',
  width: most,
  optional: false,
  initial: new Uint8Array(),
})
/** A leaf that some formats do not hold. */
export const maybe = <V>(leaf: Leaf<V>): Leaf<V | undefined> => ({
  ...leaf,
  optional: true,
  initial: undefined,
})
export const list = <S>(length: number, of: S): List<S> => ({ length, of })
/** A group (a device) that some images do not hold. */
export const optionalGroup = <S>(group: S): Optional<S> => ({ optionalGroup: group })
/** The same leaf under each of several names. */
export const each = <N extends string, S>(names: readonly N[], of: S): Record<N, S> =>
  Object.fromEntries(names.map(name => [name, of])) as Record<N, S>

function isLeaf(schema: unknown): schema is Leaf<unknown> {
  return typeof (schema as Leaf<unknown>).kind === 'string' && 'initial' in (schema as object)
}
function isList(schema: unknown): schema is List<unknown> {
  return typeof (schema as List<unknown>).length === 'number' && 'of' in (schema as object)
}
function optionalPart(schema: unknown): unknown {
  return 'optionalGroup' in (schema as object) ? (schema as Optional<unknown>).optionalGroup : undefined
}

/** The reset state: every leaf at its initial value, optional groups absent. */
export function initialValue<S>(schema: S): Value<S> {
  if (isLeaf(schema)) return schema.initial as Value<S>
  if (isList(schema)) return Array.from({ length: schema.length }, () => initialValue(schema.of)) as Value<S>
  if (optionalPart(schema) !== undefined) return undefined as Value<S>
  return Object.fromEntries(
    Object.entries(schema as object).map(([name, part]) => [name, initialValue(part)]),
  ) as Value<S>
}

/** Every leaf below `schema` by its path, in order: `general.rax`, `apic.timer.remaining`, `pit.channels.0.mode`. */
export function leavesOf(schema: unknown, prefix = ''): Map<string, Leaf<unknown>> {
  const leaves = new Map<string, Leaf<unknown>>()
  walk(schema, prefix, leaves)
  return leaves
}

function walk(schema: unknown, prefix: string, leaves: Map<string, Leaf<unknown>>): void {
  if (isLeaf(schema)) leaves.set(prefix, schema)
  else if (isList(schema))
    for (let i = 0; i < schema.length; i++) walk(schema.of, join(prefix, String(i)), leaves)
  else
    for (const [name, part] of Object.entries((optionalPart(schema) ?? schema) as object))
      walk(part, join(prefix, name), leaves)
}

const join = (prefix: string, name: string) => (prefix === '' ? name : `${prefix}.${name}`)

/** The value at `path`; undefined where a group on the way is absent. */
export function valueAt(state: object, path: string): unknown {
  let at: unknown = state
  for (const name of path.split('.')) {
    if (at === undefined) return undefined
    at = (at as Record<string, unknown>)[name]
  }
  return at
}

/** Sets the value at `path`, creating an absent optional group in its reset state. */
export function setValueAt(schema: unknown, state: object, path: string, value: unknown): void {
  const names = path.split('.')
  let at = state as Record<string, unknown>
  let part = schema
  for (const name of names.slice(0, -1)) {
    part = isList(part) ? part.of : (part as Record<string, unknown>)[name]
    const group = isLeaf(part) ? undefined : optionalPart(part)
    if (group !== undefined) {
      part = group
      at[name] ??= initialValue(group)
    }
    at = at[name] as Record<string, unknown>
  }
  at[names.at(-1)!] = value
}
