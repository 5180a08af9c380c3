import fs from 'node:fs'
import path from 'node:path'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { writeDirectoryAtomically, writeFileAtomically } from '../../../src/lib/atomic-file.js'
import { sharedFolder } from '../../helpers/temporary-folder.js'

const folder = sharedFolder()

describe('a folder that takes the place of another', () => {
  const target = path.join(folder, 'image')
  const fill = (text: string) =>
    writeDirectoryAtomically(target, directory => {
      fs.mkdirSync(path.join(directory, 'deeper'))
      fs.writeFileSync(path.join(directory, 'deeper', 'content'), text)
      fs.symlinkSync('/nowhere/at/all', path.join(directory, 'link'))
    })
  const content = () => fs.readFileSync(path.join(target, 'deeper', 'content'), 'utf8')

  it('stands whole, with a link that leads nowhere, and leaves nothing beside it', async () => {
    await fill('first')
    await fill('second')
    expect(content()).toBe('second')
    expect(fs.readdirSync(folder)).toEqual(['image'])
  })

  it('is there at every moment while it is replaced', async () => {
    await fill('0')
    const missing = new Int32Array(new SharedArrayBuffer(8))
    const watcher = new Worker(
      `const { workerData } = require('node:worker_threads'), fs = require('node:fs')
       while (Atomics.load(workerData.missing, 1) === 0)
         if (!fs.existsSync(workerData.file)) Atomics.add(workerData.missing, 0, 1)`,
      { eval: true, workerData: { missing, file: path.join(target, 'deeper', 'content') } },
    )
    await new Promise(resolve => watcher.once('online', resolve))
    for (let i = 1; i <= 40; i++) await fill(String(i))
    Atomics.store(missing, 1, 1)
    await new Promise(resolve => watcher.once('exit', resolve))
    expect([content(), missing[0]]).toEqual(['40', 0])
  })

  it('stays as it was when the new one cannot be filled', async () => {
    await fill('kept')
    const failed = writeDirectoryAtomically(target, () => {
      throw new Error('no more')
    })
    await expect(failed).rejects.toThrow('no more')
    expect(content()).toBe('kept')
    expect(fs.readdirSync(folder)).toEqual(['image'])
  })
})

it('a file stays as it was when the new one cannot be written', () => {
  const target = path.join(folder, 'file')
  writeFileAtomically(target, fd => fs.writeSync(fd, 'kept'))
  expect(() =>
    writeFileAtomically(target, fd => {
      fs.writeSync(fd, 'half')
      throw new Error('no more')
    }),
  ).toThrow('no more')
  expect(fs.readFileSync(target, 'utf8')).toBe('kept')
  expect(fs.readdirSync(folder).sort()).toEqual(['file', 'image'])
})
