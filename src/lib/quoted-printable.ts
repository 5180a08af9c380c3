/**
 * Quoted-printable as Python's `binascii.b2a_qp(text)` writes it, to the byte: CRIU's tool shows names of unix
 * sockets so. `=XX` stands for a byte that is no printable ASCII; lines are broken at 76 characters with `=\n`.
 * Only CR LF differs: Python would take it for a line end and lose which it was; here the CR is escaped.
 * Source: RFC 2045, 6.7, and the observed output of Python 3.11 (a property test compares).
 */

const MAX_LINE = 76
const TAB = 9
const LF = 10
const CR = 13
const SPACE = 32
const DOT = 46
const EQUALS = 61

const escaped = (byte: number) => `=${byte.toString(16).toUpperCase().padStart(2, '0')}`

export function encodeQuotedPrintable(bytes: Uint8Array): string {
  let text = ''
  let line = 0
  const startLine = () => {
    text += '=\n'
    line = 0
  }
  for (let i = 0; i < bytes.length; ) {
    const byte = bytes[i]!
    const next = bytes[i + 1]
    const last = i + 1 === bytes.length
    if (byte === LF) {
      // White space at the end of a line would get lost on the way.
      const before = text.charCodeAt(text.length - 1)
      if (before === SPACE || before === TAB) text = text.slice(0, -1) + escaped(before)
      text += '\n'
      line = 0
      i++
      continue
    }
    const blank = byte === TAB || byte === SPACE
    const loneDot = byte === DOT && line === 0 && (last || next === LF || next === CR || next === 0)
    const control = byte < 33 && !blank && (byte !== CR || next === LF)
    if (byte > 126 || byte === EQUALS || loneDot || control || (blank && last)) {
      if (line + 3 >= MAX_LINE) startLine()
      text += escaped(byte)
      line += 3
    } else {
      if (!last && next !== LF && line + 1 >= MAX_LINE) startLine()
      text += String.fromCharCode(byte)
      line++
    }
    i++
  }
  return text
}

/** The bytes of quoted-printable text; what is not an escape stands for itself. */
export function decodeQuotedPrintable(text: string): Uint8Array {
  const plain = text.replace(/=\r?\n/g, '')
  const bytes: number[] = []
  for (let i = 0; i < plain.length; i++) {
    const digits = plain[i] === '=' ? /^[0-9A-Fa-f]{2}/.exec(plain.slice(i + 1, i + 3)) : null
    if (digits !== null) {
      bytes.push(Number.parseInt(digits[0], 16))
      i += 2
    } else bytes.push(...Buffer.from(plain[i]!, 'utf8'))
  }
  return Uint8Array.from(bytes)
}
