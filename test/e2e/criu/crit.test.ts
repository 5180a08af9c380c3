import fs from 'node:fs'
import path from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeImageFile } from '../../../src/formats/criu/image-file.js'
import { imageKinds } from '../../../src/formats/criu/image-kinds.js'
import { jsonText } from '../../../src/formats/criu/json-text.js'
import { askCrit, critMissing } from '../../helpers/crit.js'
import { someRecord } from '../../helpers/criu-records.js'
import { imago } from '../../helpers/imago.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

/** Kinds that crit has no handler for: ours alone. */
const onlyOurs = new Set(['SIGNAL', 'BINFMT_MISC', 'PIDFD'])
const kinds = imageKinds.filter(kind => kind.extra === undefined && !onlyOurs.has(kind.name))
const samples = path.join(import.meta.dirname, '../../data/criu')

const text = (bytes: Uint8Array, readable: boolean) =>
  Buffer.concat([...jsonText(bytes, { readable })].map(piece => Buffer.from(piece as string))).toString()

describe("beside CRIU's own tool", () => {
  test('random records of every kind: the same JSON in both forms, and our JSON encodes the same there', ctx => {
    const missing = critMissing('crit-4.2')
    ctx.skip(missing !== undefined, missing ?? '')
    const folder = temporaryFolder()
    const files = new Map<string, string>()
    const images = new Map<string, Buffer>()
    for (const kind of kinds) {
      // A seed, so that a failure can be had again.
      const records = fc.sample(someRecord(kind.entry, { tame: true }), {
        seed: 4711,
        numRuns: rounds(300, 40),
      })
      const heads = kind.head === undefined ? [] : [{ type: kind.head, message: { pages_id: 1 } }]
      const entries = [
        ...heads,
        // A page map entry without 4.2's count is shown as crit 4.1 shows it: the dumps of 4.1 are for that.
        ...records.map(record => {
          const message = kind.head === undefined ? record : { nr_pages: 9n, ...record }
          return { type: kind.entry, message }
        }),
      ]
      const bytes = Buffer.from(encodeImageFile({ kind, framing: kind.framing, entries }))
      const file = path.join(folder, `${kind.name}.img`)
      fs.writeFileSync(file, bytes)
      images.set(file, bytes)
      files.set(file, text(bytes, true))
    }
    for (const [file, answer] of askCrit('crit-4.2', files)) {
      const bytes = images.get(file)!
      const name = path.basename(file)
      expect([name, text(bytes, true)]).toEqual([name, answer.pretty])
      expect([name, text(bytes, false)]).toEqual([name, answer.plain])
      expect([name, Buffer.compare(answer.again, bytes)]).toEqual([name, 0])
    }
  })

  test.each(['x86-64', 'aarch64'])('the verbs print what crit prints (%s)', isa => {
    const folder = temporaryFolder()
    const names = fs.readdirSync(path.join(samples, isa)).filter(name => name.endsWith('.json'))
    expect(names.length).toBeGreaterThan(5)
    for (const name of ['files.json', 'pstree.json']) {
      const wanted = fs.readFileSync(path.join(samples, isa, name), 'utf8')
      const image = path.join(samples, isa, name.replace('json', 'img'))
      expect(imago(['criu', 'show', image]).stdout).toBe(`${wanted.trimEnd()}\n`)
      const out = path.join(folder, name)
      expect(imago(['criu', 'decode', '--pretty', '-i', image, '-o', out]).code).toBe(0)
      expect(fs.readFileSync(out, 'utf8')).toBe(wanted.trimEnd())
      const again = path.join(folder, 'again.img')
      expect(imago(['criu', 'encode', '-i', out, '-o', again]).code).toBe(0)
      expect(Buffer.compare(fs.readFileSync(again), fs.readFileSync(image))).toBe(0)
    }
    const pstree = path.join(samples, isa, 'pstree.img')
    expect(imago(['criu', 'info', pstree]).stdout).toBe('{\n    "magic": "PSTREE",\n    "count": 1\n}\n')
    expect(imago(['criu', 'decode', path.join(samples, isa, 'pages-1.img')]).code).toBe(3)
  })
})
