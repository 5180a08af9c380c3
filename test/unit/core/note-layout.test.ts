import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { recordKinds, recordLayout } from '../../../src/formats/core/note-layout.js'
import { noteLayoutHeader } from '../../../src/formats/core/note-layout-header.js'
import { packageRoot } from '../../../src/lib/parts.js'

describe('the private notes of a core', () => {
  test('the C header is what the table says (else: npm run build && node scripts/generate-note-layout.mjs)', () => {
    const header = path.join(packageRoot, 'native/common/note-layout.h')
    expect(fs.readFileSync(header, 'utf8')).toBe(noteLayoutHeader())
  })

  test('no two kinds of record share a name or a type, and every field is aligned', () => {
    expect(new Set(recordKinds.map(kind => kind.name)).size).toBe(recordKinds.length)
    expect(new Set(recordKinds.map(kind => kind.noteType)).size).toBe(recordKinds.length)
    for (const kind of recordKinds) expect(recordLayout(kind).size % 8).toBe(0)
  })
})
