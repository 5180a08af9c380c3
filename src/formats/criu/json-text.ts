/** The JSON text of an image file, in pieces. */
import { ByteReader } from '../../lib/bytes.js'
import { type MessageType, UNKNOWN } from '../../lib/protobuf-schema.js'
import { writePythonJson } from '../../lib/python-json.js'
import { decodeImageFile, readHeader } from './image-file.js'
import { imageToJson, type JsonOptions } from './json.js'
import { PageMapCursor } from './page-map.js'
import { pageMapJson } from './page-map-json.js'
import { pagemap_entry } from './schema/memory.js'

/** Spaces a level in readable JSON, as CRIU's tool has them. */
const INDENT = 4

/** The JSON of `bytes`, without a newline at the end. @throws UnreadableError */
export function* jsonText(
  bytes: Uint8Array,
  options: JsonOptions,
  file?: string,
): Generator<string | Uint8Array> {
  const reader = new ByteReader(bytes, { file })
  const { kind, framing } = readHeader(reader, file)
  const isPageMap = kind.entry === (pagemap_entry as MessageType)
  if (isPageMap && framing === kind.framing && reader.remaining > 0) {
    const cursor = new PageMapCursor(bytes, file)
    if (cursor.head[UNKNOWN] === undefined) {
      yield* pageMapJson(cursor, options.readable ?? false)
      return
    }
  }
  const json = imageToJson(decodeImageFile(bytes, file), options)
  yield writePythonJson(json, options.readable ? INDENT : undefined)
}
