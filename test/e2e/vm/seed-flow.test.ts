import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { packageRoot } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { guest, needGuests } from './guests.js'
import { deafPort, folderWithKey } from './running.js'
import { expectTerminal, received, restored, saved, sent } from './seed-readme.js'

/** What a terminal would show: both streams as they come. */
function terminal(words: readonly string[], cwd: string): { code: number | null; text: string } {
  const command = [path.join(packageRoot, 'imago'), ...words].map(word => `'${word}'`).join(' ')
  const { status, stdout } = spawnSync('sh', ['-c', `${command} 2>&1`], { cwd, encoding: 'latin1' })
  return { code: status, text: stdout }
}

test('by file, the terminal shows the README of the ScratchVM line by line', ({ skip }) => {
  needGuests(skip)
  const folder = temporaryFolder()
  const file = path.join(folder, 'ay_caramba.txt')

  const first = terminal(['vm', 'run', '--trace', '-o', 'caramba.vm', guest('caramba')], folder)
  expect(first.code).toBe(0)
  expectTerminal(first.text, [...saved, 'saved to caramba.vm'])
  expect(fs.readFileSync(file, 'utf8')).toBe('Hello World !!!\n')

  const second = terminal(['vm', 'restore', '--trace', 'caramba.vm'], folder)
  expect(second.code).toBe(0)
  expectTerminal(second.text, restored)
  expect(fs.readFileSync(file, 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
})

test('by network, both terminals show the README of the ScratchVM line by line, retries included', async ({
  skip,
}) => {
  needGuests(skip)
  const folder = folderWithKey()
  const port = await deafPort()
  const start = (...words: string[]) => {
    const command = [path.join(packageRoot, 'imago'), 'vm', ...words].map(word => `'${word}'`).join(' ')
    const child = spawn('sh', ['-c', `exec ${command} 2>&1`], { cwd: folder })
    let text = ''
    child.stdout.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')))
    return { text: () => text, ended: new Promise(resolve => child.on('close', resolve)) }
  }
  const retry = 'connect failed, retry in 1 second...'
  const client = start('send', '--trace', '--key', 'key', '--run', guest('caramba'), `127.0.0.1:${port}`)
  while (!client.text().includes(retry)) await new Promise(resolve => setTimeout(resolve, 20))
  expect(fs.readFileSync(path.join(folder, 'ay_caramba.txt'), 'utf8')).toBe('Hello World !!!\n')
  const server = start('serve', '--trace', '--key', 'key', '--port', String(port))
  expect(await client.ended, client.text()).toBe(0)
  expect(await server.ended, server.text()).toBe(0)

  const retries = client
    .text()
    .split('\n')
    .filter(line => line === retry)
  expectTerminal(client.text(), [...saved, ...retries, ...sent])
  expectTerminal(server.text(), received)
  expect(fs.readFileSync(path.join(folder, 'ay_caramba.txt'), 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
})

test('a restore that would write into a changed file refuses and says what changed', ({ skip }) => {
  needGuests(skip)
  const folder = temporaryFolder()
  const image = path.join(folder, 'caramba.vm')
  const file = path.join(folder, 'ay_caramba.txt')
  imago(['vm', 'run', '-q', '--with-files', '-o', image, guest('caramba')], { cwd: folder })
  fs.writeFileSync(file, 'something else')

  const refused = imago(['vm', 'restore', '-q', image], { cwd: folder })
  expect(refused.code).toBe(4)
  expect(refused.stderr).toContain('the open file ./ay_caramba.txt is not as it was')
  expect(refused.stderr).toContain('14 bytes now, 16 bytes at the save')
  expect(fs.readFileSync(file, 'utf8')).toBe('something else')

  const restored = imago(['vm', 'restore', '-q', '--files=restore-content', image], { cwd: folder })
  expect(restored.code).toBe(0)
  expect(fs.readFileSync(file, 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
})

test('the exit code and the arguments of a musl program are its own', ({ skip }) => {
  needGuests(skip)
  const result = imago(['vm', 'run', guest('hello'), 'a', '--flag', 'b'])
  expect(result).toMatchObject({ code: 7, stdout: `${guest('hello')} a --flag b\n` })
})
