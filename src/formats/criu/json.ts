/**
 * CRIU image files ⇄ the JSON of CRIU's own tool, so that scripts made for it go on working:
 *
 *   { "magic": KIND, "entries": [ { field: value, …, "extra": … }, … ] }
 *
 * Two keys appear only where that tool would lose something: `unknown_fields` in a record (from a newer CRIU), and
 * `framing` in a file whose first magic is not the usual one (CRIU 1.0). A page map entry without the field `nr_pages` of CRIU
 * 4.2 shows its count under that name, as the tool of 4.1 does; reading puts it back.
 */
import { UnreadableError } from '../../lib/errors.js'
import { encodeMessage } from '../../lib/protobuf.js'
import {
  type Message,
  type MessageOf,
  type MessageType,
  UNKNOWN,
  type UnknownField,
} from '../../lib/protobuf-schema.js'
import { messagesIn, padTo } from './extra.js'
import type { Entry, ImageFile } from './image-file.js'
import { type Framing, type ImageKind, kindByName } from './image-kinds.js'
import {
  base64Lines,
  fromBase64,
  ipAddressText,
  ipAddressWords,
  valueFromJson,
  valueToJson,
} from './json-values.js'
import type { Display } from './schema/display.js'
import { ghost_chunk_entry, type ghost_file_entry } from './schema/files.js'
import { pagemap_entry } from './schema/memory.js'
import { ipc_msg, type ipc_msg_entry, type ipc_sem_entry, type ipc_shm_entry } from './schema/namespaces.js'
import type { tcp_stream_entry } from './schema/sockets.js'

export interface JsonOptions {
  /** Flags, addresses and the like as words; otherwise all numbers stay numbers. */
  readonly readable?: boolean
  /** Only the size of raw data. */
  readonly noPayload?: boolean
}

type JsonObject = Record<string, unknown>

/** The JSON of an image file as crit has it. */
export function imageToJson(image: ImageFile, options: JsonOptions = {}): JsonObject {
  const entries = image.entries.map(entry => {
    const json = messageToJson(entry.type, entry.message, options.readable ?? false)
    const extra = extraToJson(image.kind, entry, options.noPayload ?? false)
    return extra === undefined ? json : { ...json, extra }
  })
  const framing = image.framing === image.kind.framing ? {} : { framing: image.framing }
  return { magic: image.kind.name, ...framing, entries }
}

export function messageToJson(
  type: MessageType,
  message: Message,
  readable: boolean,
  underHex = false,
): JsonObject {
  const json: JsonObject = {}
  for (const field of type.ordered) {
    const value = message[field.name]
    if (value === undefined) continue
    const display = field.display as Display | undefined
    const hex = underHex || display?.kind === 'hexadecimal'
    const one = (item: unknown) =>
      field.type.kind === 'message'
        ? messageToJson(field.type, item as Message, readable, hex)
        : valueToJson(field, item, readable, hex)
    if (field.label !== 'repeated') json[field.name] = one(value)
    else if ((value as unknown[]).length > 0) {
      const address = readable && display?.kind === 'ipAddress' ? ipAddressText(value as number[]) : undefined
      json[field.name] = address === undefined ? (value as unknown[]).map(one) : [address]
    }
  }
  const unknown = message[UNKNOWN]
  if (unknown !== undefined)
    json.unknown_fields = unknown.map(({ number, wireType, bytes }) => ({
      number,
      wire_type: wireType,
      bytes: base64Lines(bytes),
    }))
  const older = type === (pagemap_entry as MessageType) && message.nr_pages === undefined
  return older ? renamePages(json) : json
}

/** Field 2 of a page map entry is called `nr_pages` up to CRIU 4.1 and `compat_nr_pages` since. */
function renamePages(json: JsonObject): JsonObject {
  return Object.fromEntries(
    Object.entries(json).map(([name, value]) => [name === 'compat_nr_pages' ? 'nr_pages' : name, value]),
  )
}

function extraToJson(kind: ImageKind, { type, message, extra }: Entry, noPayload: boolean): unknown {
  if (extra === undefined) return undefined
  const ghost = kind.extra === 'ghostFile'
  if (noPayload) return ghost ? undefined : `... <${sizeText(payloadLength(kind, message, extra))}>`
  switch (kind.extra) {
    case 'ghostFile': {
      const whole = type !== (ghost_chunk_entry as MessageType)
      if (whole && (message as MessageOf<typeof ghost_file_entry>).chunks) return undefined
      return base64Lines(extra)
    }
    case 'tcpStream': {
      const { inq_len } = message as MessageOf<typeof tcp_stream_entry>
      return { inq: base64Lines(extra.subarray(0, inq_len)), outq: base64Lines(extra.subarray(inq_len)) }
    }
    case 'semaphores': {
      const view = new DataView(extra.buffer, extra.byteOffset, extra.length)
      const { nsems } = message as MessageOf<typeof ipc_sem_entry>
      return Array.from({ length: nsems }, (_, i) => view.getUint16(2 * i, true))
    }
    case 'messageQueue':
      return messagesIn(message as MessageOf<typeof ipc_msg_entry>, extra).messages.flatMap(queued => [
        messageToJson(ipc_msg, queued.header, false),
        base64Lines(queued.body),
      ])
    case 'sharedMemory':
      return base64Lines(extra.subarray(0, Number((message as MessageOf<typeof ipc_shm_entry>).size)))
    default:
      return base64Lines(extra)
  }
}

function payloadLength(kind: ImageKind, message: Message, extra: Uint8Array): number {
  switch (kind.extra) {
    case 'semaphores':
      return 2 * (message as MessageOf<typeof ipc_sem_entry>).nsems
    case 'messageQueue': {
      const { messages } = messagesIn(message as MessageOf<typeof ipc_msg_entry>, extra)
      return messages.reduce(
        (sum, { header, body }) => sum + encodeMessage(ipc_msg, header).length + body.length,
        0,
      )
    }
    case 'sharedMemory':
      return Number((message as MessageOf<typeof ipc_shm_entry>).size)
    default:
      return extra.length
  }
}

/** `12B`, `1.5KB`, as CRIU's tool abbreviates. */
function sizeText(size: number): string {
  let value = size
  for (const unit of ['', 'K', 'M', 'G', 'T']) {
    if (value < 1024) return `${Number.isInteger(value) ? value : value.toFixed(1)}${unit}B`
    value /= 1024
  }
  return `${value.toFixed(1)}PB`
}

/** The file that `json` describes. @throws UnreadableError for what no image can be made of. */
export function imageFromJson(json: unknown): ImageFile {
  const { magic, entries, framing } = asObject(json, 'an image')
  const kind = kindByName.get(String(magic))
  if (kind === undefined)
    throw new UnreadableError('no kind of CRIU image has this name', {
      found: String(magic),
      expected: [...kindByName.keys()].join(', '),
    })
  if (!Array.isArray(entries)) throw new UnreadableError("an image has a list 'entries'")
  return {
    kind,
    framing: (framing as Framing | undefined) ?? kind.framing,
    entries: entries.map((entry, i) => entryFromJson(kind, i, asObject(entry, 'an entry'))),
  }
}

function entryFromJson(kind: ImageKind, index: number, { extra, ...json }: JsonObject): Entry {
  const first = index === 0
  const type = first
    ? (kind.head ?? kind.entry)
    : kind.extra === 'ghostFile'
      ? (ghost_chunk_entry as MessageType)
      : kind.entry
  const message = messageFromJson(type, json)
  const raw = kind.extra && extraFromJson(kind, message, extra)
  return raw === undefined ? { type, message } : { type, message, extra: raw }
}

function messageFromJson(type: MessageType, json: JsonObject): Message {
  const message: Record<string, unknown> = {}
  // Written by CRIU's tool before 4.2.
  if (type === (pagemap_entry as MessageType) && json.compat_nr_pages === undefined)
    json = { ...json, compat_nr_pages: json.nr_pages, nr_pages: undefined }
  for (const field of type.ordered) {
    const value = json[field.name]
    if (value === undefined) {
      if (field.label === 'repeated') message[field.name] = []
      continue
    }
    const of = field.type
    const one = (item: unknown) =>
      of.kind === 'message'
        ? messageFromJson(of, asObject(item, `'${field.name}'`))
        : valueFromJson(field, item)
    if (field.label !== 'repeated') message[field.name] = one(value)
    else if (!Array.isArray(value)) throw new UnreadableError(`'${field.name}' should be a list`)
    else {
      const address = (field.display as Display | undefined)?.kind === 'ipAddress'
      message[field.name] =
        address && typeof value[0] === 'string' ? ipAddressWords(value[0]) : value.map(one)
    }
  }
  const unknown = json.unknown_fields
  if (Array.isArray(unknown))
    (message as { [UNKNOWN]?: UnknownField[] })[UNKNOWN] = unknown
      .map(each => asObject(each, 'an unknown field'))
      .map(each => ({
        number: Number(each.number),
        wireType: Number(each.wire_type),
        bytes: fromBase64(each.bytes, 'an unknown field'),
      }))
  return message
}

function extraFromJson(kind: ImageKind, message: Message, extra: unknown): Uint8Array {
  switch (kind.extra) {
    case 'ghostFile':
      return extra === undefined ? new Uint8Array() : fromBase64(extra, "'extra'")
    case 'tcpStream': {
      const queues = asObject(extra, "'extra'")
      return Buffer.concat([fromBase64(queues.inq, "'inq'"), fromBase64(queues.outq, "'outq'")])
    }
    case 'semaphores': {
      if (!Array.isArray(extra)) throw new UnreadableError("'extra' should be a list of semaphores")
      const values = Uint16Array.from(extra as number[])
      return padTo(new Uint8Array(values.buffer), 8)
    }
    case 'messageQueue':
      return messageQueueFromJson(extra)
    case 'sharedMemory': {
      const { size, in_pagemaps } = message as MessageOf<typeof ipc_shm_entry>
      return in_pagemaps ? new Uint8Array() : padTo(fromBase64(extra, "'extra'").subarray(0, Number(size)), 4)
    }
    default:
      return fromBase64(extra, "'extra'")
  }
}

function messageQueueFromJson(extra: unknown): Uint8Array {
  if (!Array.isArray(extra)) throw new UnreadableError("'extra' should be a list of messages")
  const pieces: Uint8Array[] = []
  for (let i = 0; i < extra.length; i += 2) {
    const header = messageFromJson(ipc_msg, asObject(extra[i], 'a message header'))
    const bytes = encodeMessage(ipc_msg, header)
    const length = new Uint8Array(4)
    new DataView(length.buffer).setUint32(0, bytes.length, true)
    const body = fromBase64(extra[i + 1], 'a message body')
    pieces.push(length, bytes, padTo(body.subarray(0, header.msize as number), 8))
  }
  return Buffer.concat(pieces)
}

function asObject(json: unknown, what: string): JsonObject {
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new UnreadableError(`${what} should be a JSON object`, { found: String(json).slice(0, 40) })
  return json as JsonObject
}
