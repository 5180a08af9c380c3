/** Damaged files beside a machine image: refused with a named error or read, never a crash. The other readers have such a test with their own. */
import fs from 'node:fs'
import path from 'node:path'
import zlib from 'node:zlib'
import { expect, test } from 'vitest'
import { memoryImage } from '../../../src/formats/palacios/memory-image.js'
import { formatBinary, formatText, newContext } from '../../../src/formats/palacios/records.js'
import { readCaptureRecord } from '../../../src/formats/qemu/capture-record.js'
import {
  DEFAULT_LINE,
  machineWords,
  readRecord,
  writeRecord,
} from '../../../src/formats/qemu/machine-line.js'
import { ImagoError } from '../../../src/lib/errors.js'
import { openMaybeGzipped } from '../../../src/lib/gzip.js'
import { openKernelSymbols } from '../../../src/lib/kernel-symbols.js'
import type { Memory } from '../../../src/model/memory.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { tinyElf } from '../../helpers/tiny-elf.js'
import { mutate } from './mutate.js'

const ram = Uint8Array.from({ length: 3 * 4096 }, (_, i) => (i % 4096 < 64 ? i & 255 : 0))
const region = (i: number) => ram.subarray(i * 4096, (i + 1) * 4096)
const memory = newContext('memory_img', [
  ['region_size', Buffer.from('0010000000000000', 'hex')],
  ['num_regions', Buffer.from('03000000', 'hex')],
  ...[0, 1, 2].map(i => [`memory_img${i}`, region(i)] as const),
])
const STORE_BYTES = 1 << 20

function readAll(image: Memory): void {
  for (const { address, length } of image.extents) image.read(address, Math.min(length, 1 << 16))
  image.close()
}

function record(): Buffer {
  const image = path.join(temporaryFolder(), 'image')
  writeRecord(image, { ...DEFAULT_LINE, more: ['-vga', 'std'] }, { qemu: '7.2.22', tscRate: 1e9 })
  return fs.readFileSync(`${image}.json`)
}

const symbols = ['_text', 'boot_cpu_data', 'default_idle'].map(
  (name, i) => `${(0xffffffff81000000n + BigInt(i * 64)).toString(16)} T ${name}`,
)
const vmlinux = () =>
  tinyElf(
    [{ name: '.text', address: 0x81000000n, content: new Uint8Array(256), flags: 6 }],
    [{ name: 'default_idle', type: 2, address: 0x81000040n, size: 32 }],
  )

const readers: Readonly<Record<string, { original(): Uint8Array; read(file: string): unknown }>> = {
  'a gzipped RAM store': {
    original: () => zlib.gzipSync(Buffer.concat([ram, Buffer.alloc(STORE_BYTES / 4)])),
    async read(file) {
      const source = await openMaybeGzipped(file, STORE_BYTES)
      expect(source.size).toBeLessThanOrEqual(STORE_BYTES)
      source.close()
    },
  },
  'memory_img as text': { original: () => formatText(memory), read: file => readAll(memoryImage(file)) },
  'memory_img in binary': { original: () => formatBinary(memory), read: file => readAll(memoryImage(file)) },
  'the record of a capture': {
    original: record,
    read(file) {
      const image = file.replace(/\.json$/, '')
      readCaptureRecord(image)
      machineWords(readRecord(image)!)
    },
  },
  'a System.map': {
    original: () => Buffer.from(`${symbols.join('\n')}\n`),
    read: file => openKernelSymbols(file).at(0xffffffff81000010n),
  },
  'a vmlinux': {
    original: vmlinux,
    read(file) {
      const symbols = openKernelSymbols(file)
      try {
        symbols.at(0x81000044n)
      } finally {
        symbols.close()
      }
    },
  },
}

test.each(Object.keys(readers))('%s', async name => {
  const { original, read } = readers[name]!
  const whole = Buffer.from(original())
  const file = path.join(temporaryFolder(), 'damaged.json')
  fs.writeFileSync(file, whole)
  await read(file)
  for (let seed = 0; seed < rounds(10_000, 250); seed++) {
    fs.writeFileSync(file, mutate(whole, seed))
    try {
      await read(file)
    } catch (error) {
      if (!(error instanceof ImagoError)) throw new Error(`seed ${seed}`, { cause: error })
    }
  }
})
