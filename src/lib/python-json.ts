/**
 * JSON as Python's `json` module writes it, to the byte (`, ` and `: `, everything but ASCII escaped), and reading
 * that keeps integers of any size. bigint is written as a plain integer.
 */
import { UnreadableError } from './errors.js'

/** @param indent spaces a level on lines of their own, or undefined for one line. */
export function writePythonJson(value: unknown, indent?: number): string {
  return write(value, indent, '\n')
}

function write(value: unknown, indent: number | undefined, lineStart: string): string {
  switch (typeof value) {
    case 'string':
      return quoteJson(value)
    case 'object': {
      if (value === null) return 'null'
      const inner = indent === undefined ? '' : lineStart + ' '.repeat(indent)
      const outer = indent === undefined ? '' : lineStart
      const separator = indent === undefined ? ', ' : `,${inner}`
      if (Array.isArray(value)) {
        if (value.length === 0) return '[]'
        return `[${inner}${value.map(item => write(item, indent, inner)).join(separator)}${outer}]`
      }
      const items = Object.entries(value)
      if (items.length === 0) return '{}'
      const texts = items.map(([name, item]) => `${quoteJson(name)}: ${write(item, indent, inner)}`)
      return `{${inner}${texts.join(separator)}${outer}}`
    }
    default:
      return String(value)
  }
}

/** A JSON string in ASCII. */
function quoteJson(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** Parses JSON; an integer that a double cannot hold becomes a string of its digits. @throws UnreadableError */
export function readExactJson(text: string, file?: string): unknown {
  // A string is matched whole, so that digits within it are left alone.
  const exact = text.replace(/"(?:[^"\\]|\\.)*"|-?\d{16,}/g, token =>
    token.startsWith('"') ? token : `"${token}"`,
  )
  try {
    return JSON.parse(exact)
  } catch (error) {
    throw new UnreadableError(`no JSON: ${(error as Error).message}`, { file, cause: error })
  }
}
