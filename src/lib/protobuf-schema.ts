/**
 * Declares protobuf (proto2) messages as tables. One declaration serves the codec (`protobuf.ts`), JSON,
 * and the types of the decoded records:
 *
 *   export const point = message('point', { x: required(1, uint64), name: optional(2, string) })
 *   type Point = MessageOf<typeof point>       // { x: bigint; name?: string }
 *
 * 64-bit numbers are bigint, enumerations are their number, `bytes` are views of the input.
 * Source: protobuf.dev, "Encoding" and "Language Guide (proto 2)".
 */

export type ScalarName =
  | 'int32'
  | 'int64'
  | 'uint32'
  | 'uint64'
  | 'sint32'
  | 'sint64'
  | 'fixed64'
  | 'bool'
  | 'string'
  | 'bytes'

export interface ScalarType<Value> {
  readonly kind: 'scalar'
  readonly name: ScalarName
  /** Never set: carries the TypeScript type of a value. */
  readonly value?: Value
}

export interface EnumerationType {
  readonly kind: 'enumeration'
  readonly name: string
  readonly numbers: ReadonlyMap<string, number>
  readonly names: ReadonlyMap<number, string>
}

export type Label = 'required' | 'optional' | 'repeated'

/** A message's own type may stand in a function, for messages that contain themselves. */
export type FieldType = ScalarType<unknown> | EnumerationType | MessageType | (() => MessageType)

export interface Field<L extends Label = Label, T extends FieldType = FieldType> {
  readonly number: number
  readonly label: L
  readonly type: T
  /** How the format that owns the message shows a value; the codec does not look at it. */
  readonly display: unknown
}

export type Fields = Readonly<Record<string, Field>>

export interface NamedField extends Field<Label, ScalarType<unknown> | EnumerationType | MessageType> {
  readonly name: string
}

export interface MessageType<F extends Fields = Fields> {
  readonly kind: 'message'
  readonly name: string
  readonly fields: F
  /** By field number, ascending: the order of canonical bytes and of JSON. */
  readonly ordered: readonly NamedField[]
  /** Index is the field number. */
  readonly byNumber: ReadonlyArray<NamedField | undefined>
}

/** Key under which a record keeps the fields that its table does not know, so that encoding puts them back. */
export const UNKNOWN: unique symbol = Symbol('unknown fields')

export interface UnknownField {
  readonly number: number
  readonly wireType: number
  /** The value as it is on the wire: the varint, the fixed bytes, or the content of a length-delimited field. */
  readonly bytes: Uint8Array
}

type ValueOf<T> =
  T extends ScalarType<infer Value>
    ? Value
    : T extends EnumerationType
      ? number
      : T extends MessageType
        ? MessageOf<T>
        : Message

type FieldsWith<F extends Fields, L extends Label> = {
  readonly [Name in keyof F as F[Name]['label'] extends L ? Name : never]: ValueOf<F[Name]['type']>
}

/** The record of a message: required fields are there, repeated ones are arrays (empty when absent). */
export type MessageOf<T extends MessageType> =
  T extends MessageType<infer F>
    ? FieldsWith<F, 'required'> &
        Partial<FieldsWith<F, 'optional'>> & {
          readonly [Name in keyof F as F[Name]['label'] extends 'repeated' ? Name : never]: ReadonlyArray<
            ValueOf<F[Name]['type']>
          >
        } & { readonly [UNKNOWN]?: readonly UnknownField[] }
    : never

/** A record whose message type is known only at run time. */
export interface Message {
  readonly [name: string]: unknown
  readonly [UNKNOWN]?: readonly UnknownField[]
}

const scalar = <Value>(name: ScalarName): ScalarType<Value> => ({ kind: 'scalar', name })

export const int32 = scalar<number>('int32')
export const int64 = scalar<bigint>('int64')
export const uint32 = scalar<number>('uint32')
export const uint64 = scalar<bigint>('uint64')
export const sint32 = scalar<number>('sint32')
export const sint64 = scalar<bigint>('sint64')
export const fixed64 = scalar<bigint>('fixed64')
export const bool = scalar<boolean>('bool')
export const string = scalar<string>('string')
export const bytes = scalar<Uint8Array>('bytes')

/** The type of fields whose numbers have names; a number without one stays a number. */
export function enumeration(name: string, numbers: Readonly<Record<string, number>>): EnumerationType {
  const entries = Object.entries(numbers)
  return {
    kind: 'enumeration',
    name,
    numbers: new Map(entries),
    names: new Map(entries.map(([each, number]) => [number, each])),
  }
}

const field =
  <L extends Label>(label: L) =>
  <T extends FieldType>(number: number, type: T, display?: unknown): Field<L, T> => ({
    number,
    label,
    type,
    display,
  })

export const required = field('required')
export const optional = field('optional')
export const repeated = field('repeated')

/** The type of messages with these fields. */
export function message<F extends Fields>(name: string, fields: F): MessageType<F> {
  let ordered: NamedField[] | undefined
  let byNumber: (NamedField | undefined)[] | undefined
  return {
    kind: 'message',
    name,
    fields,
    // Made on first use: a message that contains itself is declared only after this call.
    get ordered() {
      ordered ??= Object.entries(fields)
        .map(([each, { type, ...rest }]) => ({
          name: each,
          ...rest,
          type: typeof type === 'function' ? type() : type,
        }))
        .sort((a, b) => a.number - b.number)
      return ordered
    },
    get byNumber() {
      if (byNumber === undefined) {
        byNumber = []
        for (const each of this.ordered) byNumber[each.number] = each
      }
      return byNumber
    },
  }
}
