/**
 * UTF-8 text that may be no UTF-8: file names are any bytes. A byte that does not decode becomes the lone
 * surrogate U+DC00 + byte, as Python's `surrogateescape` does (PEP 383), so that encoding gives the same bytes back.
 */

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Decodes `bytes`; never throws, and `encodeText` is its exact inverse. */
export function decodeText(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  let ascii = true
  for (let i = 0; i < buffer.length && ascii; i++) ascii = buffer[i]! < 0x80
  if (ascii) return buffer.toString('latin1')
  try {
    return strict.decode(bytes)
  } catch {
    return decodeByPieces(buffer)
  }
}

/** Takes the longest valid sequence (1 to 4 bytes) at each place, or escapes one byte. */
function decodeByPieces(buffer: Buffer): string {
  let text = ''
  for (let at = 0; at < buffer.length; ) {
    const lead = buffer[at]!
    const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4
    try {
      if (lead >= 0x80 && lead < 0xc2) throw undefined
      text += strict.decode(buffer.subarray(at, at + length))
      at += length
    } catch {
      text += String.fromCharCode(0xdc00 + lead)
      at++
    }
  }
  return text
}

/** The bytes of such a text. */
export function encodeText(text: string): Uint8Array {
  if (!/\p{Surrogate}/u.test(text)) return Buffer.from(text, 'utf8')
  const pieces: Buffer[] = []
  for (const character of text) {
    const code = character.codePointAt(0)!
    const escaped = code >= 0xdc80 && code <= 0xdcff
    pieces.push(escaped ? Buffer.from([code - 0xdc00]) : Buffer.from(character, 'utf8'))
  }
  return Buffer.concat(pieces)
}
