import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { FileSource } from '../../../src/lib/byte-source.js'
import { Memory } from '../../../src/model/memory.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

test('memory that is closed leaves none of its files open', () => {
  const file = path.join(temporaryFolder(), 'bytes')
  fs.writeFileSync(file, Buffer.alloc(8192, 1))
  const source = new FileSource(file)
  const slice = (address: bigint, offset: number) => ({
    address,
    length: 4096,
    content: { kind: 'slice' as const, source, offset },
  })
  const memory = Memory.from([slice(0x1000n, 0), slice(0x9000n, 4096)])
  memory.close()
  expect(() => fs.fstatSync(source.fd)).toThrow('EBADF')
  memory.close()
})
