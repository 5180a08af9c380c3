import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { verifyCriu } from '../../../src/formats/criu/verify.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const samples = path.join(packageRoot, 'test/data/criu')

/** A copy of a sample that a test may damage. */
function sample(isa: 'x86-64' | 'aarch64'): string {
  const folder = temporaryFolder()
  for (const name of fs.readdirSync(path.join(samples, isa)))
    if (name.endsWith('.img')) fs.copyFileSync(path.join(samples, isa, name), path.join(folder, name))
  return folder
}

describe('verify of CRIU directories', () => {
  test.each(['x86-64', 'aarch64'] as const)('real dumps of %s are sound', async isa => {
    expect(await verifyCriu(sample(isa))).toEqual([])
  })

  test.each<[what: string, damage: (folder: string) => void, problem: string]>([
    [
      'a pages file that lost a page',
      f => fs.truncateSync(path.join(f, 'pages-1.img'), 15 * 4096),
      '61440 bytes, and pagemap-12623.img speak of 16 pages',
    ],
    ['a pages file that is not there', f => fs.rmSync(path.join(f, 'pages-1.img')), 'pages-1.img is missing'],
    [
      'registers that are not there',
      f => fs.rmSync(path.join(f, 'core-12623.img')),
      'core-12623.img is missing',
    ],
    [
      'open files that are not there',
      f => fs.rmSync(path.join(f, 'fdinfo-2.img')),
      'fdinfo-2.img is missing',
    ],
    ['a file that is cut short', f => fs.truncateSync(path.join(f, 'mm-12623.img'), 100), 'mm-12623.img'],
    [
      'another magic',
      f => fs.writeFileSync(path.join(f, 'files.img'), Buffer.alloc(64, 7)),
      'no kind of CRIU image has this magic',
    ],
    [
      'a pages file that nobody speaks of',
      f => fs.writeFileSync(path.join(f, 'pages-9.img'), ''),
      'no page map speaks of it',
    ],
    ['no inventory', f => fs.rmSync(path.join(f, 'inventory.img')), 'inventory.img is missing'],
  ])('%s is found', async (_, damage, problem) => {
    const folder = sample('x86-64')
    damage(folder)
    expect((await verifyCriu(folder)).join('\n')).toContain(problem)
  })
})
