import fs from 'node:fs'
import path from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ImagoError, UnreadableError } from '../../../src/lib/errors.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { parseRecipe, readRecipe } from '../../../src/recompose/recipe.js'

const example = path.join(packageRoot, 'docs/examples/manual-migration.yaml')

describe('recipes', () => {
  test('the recipe of the manual notes says what the notes say', () => {
    const recipe = readRecipe(example)
    expect(recipe.base).toBe('x86-64')
    expect(recipe.regions.map(({ where, action }) => [where, action.kind])).toEqual([
      [{ by: 'name', names: ['.text'] }, 'zero'],
      [{ by: 'name', names: ['.data'] }, 'copy'],
      [{ by: 'name', names: ['.bss'] }, 'copy'],
      [{ by: 'name', names: ['vdso', 'vvar'] }, 'template'],
      [{ by: 'name', names: ['stack'] }, 'copy'],
    ])
    expect(recipe.regions[1]!.patches).toEqual([
      { offset: 0x270, content: { kind: 'from', image: 'x86-64', length: 8 } },
    ])
  })

  test('JSON is read as YAML is', () => {
    const recipe = parseRecipe(
      JSON.stringify({
        images: { a: 'x' },
        regions: [{ pages: '0x2-134', zero: true, patch: [{ offset: 16, value: 258, size: 2 }] }],
      }),
      '/w',
    )
    expect(recipe.images.get('a')!.path).toBe('/w/x')
    expect(recipe.regions[0]!.where).toEqual({ by: 'pages', first: 2, last: 134 })
    expect(recipe.regions[0]!.patches[0]!.content).toEqual({ kind: 'bytes', bytes: Uint8Array.of(2, 1) })
  })

  test('64-bit numbers keep all their bits', () => {
    const recipe = parseRecipe('{images: {a: x}, registers: {rip: 0xfffffffffffffff1}}', '/')
    expect((recipe.registers as ReadonlyMap<string, bigint>).get('rip')).toBe(0xfffffffffffffff1n)
  })

  test.each([
    ['images: {a: x}\nregions: [{region: .data, copy: b}]', 'regions[0].copy'],
    ['images: {a: x}\nregions: [{region: .data, copy: a, zero: true}]', 'regions[0]'],
    ['images: {a: x}\nregions: [{region: .data, pages: 1}]', 'regions[0]'],
    [
      'images: {a: x}\nregions: [{region: .data, patch: [{offset: 0, bytes: abc}]}]',
      'regions[0].patch[0].bytes',
    ],
    [
      'images: {a: x}\nregions: [{region: .data, patch: [{offset: 0, value: 256, size: 1}]}]',
      'regions[0].patch[0]',
    ],
    ['images: {a: x}\nregions: [{address: 0x1000-0x1001}]', 'regions[0].address'],
    ['images: {a: x}\nregion: []', 'top'],
    ['images: {}', 'images'],
    ['base: a', 'images'],
    ['images: {a: x}\nregisters: {rip: -1}', 'registers.rip'],
    ['- a', 'top'],
  ])('%j is refused with its place', (text, place) => {
    expect(() => parseRecipe(text, '/')).toThrow(UnreadableError)
    expect(() => parseRecipe(text, '/')).toThrow(`the recipe's ${place} is wrong`)
  })

  test('a damaged recipe gives a named error, never a crash', () => {
    const text = fs.readFileSync(example, 'latin1')
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(text.length - 1), fc.nat(127)), { maxLength: 6 }), changes => {
        const letters = [...text]
        for (const [at, code] of changes) letters[at] = String.fromCharCode(code)
        try {
          parseRecipe(letters.join(''), '/')
        } catch (error) {
          expect(error).toBeInstanceOf(ImagoError)
        }
      }),
      { numRuns: 300 },
    )
  })
})
