/**
 * Mutated images against the restorer: each is refused with a reason, or restores right. No mutation may crash
 * it, make it hang, or let it map what the image does not say.
 */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { FileSource } from '../../../src/lib/byte-source.js'
import { PT, readElfHeader, readProgramHeaders } from '../../../src/lib/elf-header.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { buildWorkload } from '../../helpers/programs.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

test('mutated images are refused with a reason or restored right, never crash the restorer or hang', async () => {
  const folder = temporaryFolder()
  const output = path.join(folder, 'out')
  const child = spawn(
    path.join(packageRoot, 'imago'),
    ['run', '--', buildWorkload('programs/count'), '900'],
    { cwd: folder, stdio: ['ignore', fs.openSync(output, 'w'), 'inherit'] },
  )
  const gone = new Promise(resolve => child.once('exit', resolve))
  while (!fs.readFileSync(output, 'utf8').startsWith('counting')) await sleep(5)
  // Near its end, so that a restored copy is soon done.
  await sleep(250)
  const image = path.join(folder, 'image')
  const taken = imago(['checkpoint', String(child.pid), '-o', image, '--stop'])
  expect(taken.code, taken.stderr).toBe(0)
  await gone
  const restorer = imago(['path', 'myrestart']).stdout.trim()
  const restore = () => spawnSync(restorer, [image], { cwd: folder, encoding: 'utf8', timeout: 20_000 })
  const untouched = restore()
  expect(untouched.status, untouched.stderr).toBe(7)
  const right = fs.readFileSync(output, 'utf8')
  expect(right).toMatch(/^counting\ncounted \d+\n$/)

  const source = new FileSource(image)
  const segments = readProgramHeaders(source, readElfHeader(source))
  source.close()
  const notes = segments.find(segment => segment.type === PT.NOTE)!
  const size = fs.statSync(image).size
  const fd = fs.openSync(image, 'r+')
  const whole = fs.readFileSync(image)
  let refused = 0
  for (let round = 0; round < rounds(10_000, 1500); round++) {
    const start = Math.random() < 0.3 ? 0 : notes.offset
    const end = start === 0 ? notes.offset : notes.offset + notes.fileSize
    const at = Array.from(
      { length: 1 + Math.floor(Math.random() * 4) },
      () => start + Math.floor(Math.random() * (end - start)),
    )
    for (const position of at)
      fs.writeSync(fd, Uint8Array.of(Math.floor(Math.random() * 256)), 0, 1, position)
    if (Math.random() < 0.1) fs.ftruncateSync(fd, Math.floor(Math.random() * size))
    const result = restore()
    const story = `bytes at ${at.join(', ')} of ${size}: status ${result.status}, signal ${result.signal}, ${result.stderr}`
    expect(result.signal, story).toBe(null)
    if (result.status === 7) expect(fs.readFileSync(output, 'utf8'), story).toBe(right)
    else {
      refused++
      expect(result.stderr.trim(), story).not.toBe('')
      expect([3, 4, 5], story).toContain(result.status)
    }
    fs.writeSync(fd, whole, 0, whole.length, 0)
  }
  fs.closeSync(fd)
  expect(refused).toBeGreaterThan(0)
})
