import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { readCriu } from '../../../src/formats/criu/read.js'
import { detectFormat } from '../../../src/formats/registry.js'

const folder = path.join(import.meta.dirname, '../../data/criu')

describe('a CRIU image as a process', () => {
  test('is recognised', () => {
    expect(detectFormat(path.join(folder, 'x86-64')).name).toBe('criu')
  })

  test.each([
    ['x86-64', 12623, 'rip', 0x40135en],
    ['aarch64', 184, 'pc', 0x400498n],
  ] as const)('%s: registers, files and layout are the program of the sample', async (isa, pid, pc, at) => {
    const image = await readCriu(path.join(folder, isa))
    expect(image.isa).toBe(isa)
    expect(image.processes).toHaveLength(1)
    const process = image.processes[0]!
    expect(process.pid).toBe(pid)
    expect(process.threads[0]!.registers.general.get(pc)).toBe(at)
    expect(process.workingDirectory).toBe('/w')
    const output = image.descriptions.get(process.files[1]!.description)!
    expect(output).toMatchObject({ kind: 'regular', path: '/w/out.txt', offset: 98n })
    expect(process.limits.get('nofile')).toBeDefined()
    expect(process.signalActions.get(10)!.handler).not.toBe(0n)
  })

  test.each(['x86-64', 'aarch64'])('%s: memory points at the right page of the pages file', async isa => {
    const image = await readCriu(path.join(folder, isa))
    const process = image.processes[0]!
    const pages = fs.readFileSync(path.join(folder, isa, 'pages-1.img'))
    expect(process.memory.byteCount).toBe(pages.length)
    // All pages, in the order of their addresses, are the pages file.
    const read = process.memory.extents.map(extent => process.memory.read(extent.address, extent.length))
    expect(Buffer.compare(Buffer.concat(read), pages)).toBe(0)
  })

  test('mappings are those of /proc/PID/maps', async () => {
    const image = await readCriu(path.join(folder, 'x86-64'))
    const maps = fs.readFileSync(path.join(folder, 'x86-64/maps.txt'), 'utf8').trim().split('\n')
    // CRIU keeps vvar and vvar_vclock, which are neighbours, as one.
    const wanted = maps
      .map(line => /^(\w+)-(\w+) (\S+)/.exec(line)!)
      .filter(match => match[1] !== '7ffff7ffb000')
      .map(match => BigInt(`0x${match[1]}`))
    expect(image.processes[0]!.mappings.map(mapping => mapping.start)).toEqual(wanted)
  })
})
