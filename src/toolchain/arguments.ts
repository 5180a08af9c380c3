/** An argument of a call or a parameter: `type attributes… value`. */
import { closing, leadingType } from './ir.js'

export interface Argument {
  readonly type: string
  /** `noundef align 8 byval(%struct.s) `: as written, with a space at the end when there are any. */
  readonly attributes: string
  /** Constant, name or constant expression; empty in a declaration. */
  readonly value: string
}

const PLAIN_ATTRIBUTE =
  /^(?:noundef|nonnull|signext|zeroext|inreg|returned|nocapture|noalias|readonly|readnone|writeonly|writable|dead_on_unwind|immarg|nofree|nest|noext|swift\w+|allocptr|allocalign|align \d+)(?=\s|$)\s*/
const ATTRIBUTE_WITH_VALUE =
  /^(?:byval|sret|byref|preallocated|inalloca|elementtype|dereferenceable|dereferenceable_or_null|nofpclass|range|initializes|captures|align)(?=\()/

export function parseArgument(text: string): Argument {
  const type = leadingType(text)
  let rest = text.trimStart().slice(type.length).trimStart()
  let attributes = ''
  for (;;) {
    const plain = PLAIN_ATTRIBUTE.exec(rest)
    if (plain) {
      attributes += `${plain[0].trim()} `
      rest = rest.slice(plain[0].length)
      continue
    }
    const valued = ATTRIBUTE_WITH_VALUE.exec(rest)
    if (!valued) return { type, attributes, value: rest.trim() }
    const end = closing(rest, valued[0].length) + 1
    attributes += `${rest.slice(0, end)} `
    rest = rest.slice(end).trimStart()
  }
}

/** The type in `byval(type)`, and its alignment. */
export function byval(argument: Argument): { type: string; align: number } | undefined {
  const at = argument.attributes.indexOf('byval(')
  if (at < 0) return undefined
  const end = closing(argument.attributes, at + 5)
  return {
    type: argument.attributes.slice(at + 6, end),
    align: Number(/\balign (\d+)/.exec(argument.attributes)?.[1] ?? 8),
  }
}
