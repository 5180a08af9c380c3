/** The C header of the private notes, made from their table: what `native/` includes as `common/note-layout.h`. */
import {
  constants,
  type FieldType,
  LAYOUT_VERSION,
  NOTE_NAME,
  recordKinds,
  recordLayout,
} from './note-layout.js'

const snake = (name: string) => name.replace(/[A-Z]+/g, part => `_${part.toLowerCase()}`)

/** `mappingKinds` → `MAPPING_KIND`, the prefix of its constants. */
const prefix = (name: string) => snake(name).replace(/s$/, '').toUpperCase()

function declaration(type: FieldType, name: string): string {
  switch (type) {
    case 'u32':
      return `uint32_t ${name};`
    case 'i32':
      return `int32_t ${name};`
    case 'u64':
      return `uint64_t ${name};`
    case 'i64':
      return `int64_t ${name};`
    case 'string':
      return `struct note_string ${name};`
    default:
      return `unsigned char ${name}[${type.bytes}];`
  }
}

export function noteLayoutHeader(): string {
  const lines = [
    '/* Made by scripts/generate-note-layout.mjs from src/formats/core/note-layout.ts, which explains it: do not edit. */',
    '#pragma once',
    '#include <stdint.h>',
    '',
    `#define NOTE_NAME "${NOTE_NAME}"`,
    `#define NOTE_LAYOUT_VERSION ${LAYOUT_VERSION.plain}`,
    `#define NOTE_LAYOUT_VERSION_MOVED ${LAYOUT_VERSION.withMovedPages}`,
    '',
    'struct note_header { uint32_t record_size, record_count, strings_size, reserved; };',
    'struct note_string { uint32_t offset, length; };',
  ]
  for (const record of recordKinds) {
    lines.push(
      '',
      `/* ${record.doc} */`,
      `#define NOTE_TYPE${snake(`_${record.name}`).toUpperCase().replace('__', '_')} 0x${record.noteType.toString(16)}u`,
      `struct note_${snake(record.name)} {`,
    )
    for (const field of record.fields) {
      const text = declaration(field.type, snake(field.name))
      lines.push(field.doc === '' ? `  ${text}` : `  ${text.padEnd(40)} /* ${field.doc} */`)
    }
    lines.push(
      '};',
      `_Static_assert(sizeof(struct note_${snake(record.name)}) == ${recordLayout(record).size}, "${record.name}");`,
    )
  }
  for (const [name, values] of Object.entries(constants)) {
    lines.push('')
    for (const [constant, [value, meaning]] of Object.entries(
      values as Record<string, readonly [number, string]>,
    )) {
      const text = `#define ${prefix(name)}_${snake(constant).toUpperCase()} ${value}u`
      lines.push(meaning === '' ? text : `${text.padEnd(48)} /* ${meaning} */`)
    }
  }
  return `${lines.join('\n')}\n`
}
