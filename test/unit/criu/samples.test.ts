import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { decodeImageFile, encodeImageFile } from '../../../src/formats/criu/image-file.js'
import { imageFromJson, imageToJson } from '../../../src/formats/criu/json.js'
import { readExactJson, writePythonJson } from '../../../src/lib/python-json.js'

/** Dumps of one program on both ISAs by CRIU 4.2, each file beside what CRIU's own tool shows. */
const folder = path.join(import.meta.dirname, '../../data/criu')
const samples = ['x86-64', 'aarch64'].flatMap(isa =>
  fs
    .readdirSync(path.join(folder, isa))
    .filter(name => name.endsWith('.img') && !name.startsWith('pages-'))
    .map(name => path.join(isa, name)),
)

describe.each(samples)('sample %s', name => {
  const bytes = fs.readFileSync(path.join(folder, name))
  const shown = fs.readFileSync(path.join(folder, name.replace(/img$/, 'json')), 'utf8')

  test('decode then encode gives the same bytes', () => {
    expect(Buffer.compare(encodeImageFile(decodeImageFile(bytes)), bytes)).toBe(0)
  })

  test("JSON is CRIU's own, to the byte", () => {
    expect(writePythonJson(imageToJson(decodeImageFile(bytes), { readable: true }), 4)).toBe(shown.trimEnd())
  })

  test("CRIU's JSON encodes to the same bytes", () => {
    expect(Buffer.compare(encodeImageFile(imageFromJson(readExactJson(shown))), bytes)).toBe(0)
  })

  test('JSON with plain numbers encodes to the same bytes', () => {
    const plain = writePythonJson(imageToJson(decodeImageFile(bytes)))
    expect(Buffer.compare(encodeImageFile(imageFromJson(readExactJson(plain))), bytes)).toBe(0)
  })
})
