import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { decodeImageFile, encodeImageFile } from '../../../src/formats/criu/image-file.js'
import { kindByMagic } from '../../../src/formats/criu/image-kinds.js'
import { imageFromJson, imageToJson } from '../../../src/formats/criu/json.js'
import { readCriu } from '../../../src/formats/criu/read.js'
import { writeCriu } from '../../../src/formats/criu/write.js'
import { readExactJson, writePythonJson } from '../../../src/lib/python-json.js'
import { spawnSync } from '../../helpers/bounded.js'
import { askCrit, critListing, critMissing } from '../../helpers/crit.js'
import { criuOf, dump, endSession, startEverything } from '../../helpers/criu-dump.js'
import { imago } from '../../helpers/imago.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

/** Processes of the tree; a zombie comes on top. */
const TREE = rounds(300, 60)

/** Files with records: CRIU's magic, then that of a kind. */
function recordFiles(folder: string): string[] {
  return fs
    .readdirSync(folder)
    .filter(name => name.endsWith('.img') || name.startsWith('stats-'))
    .filter(name => {
      const bytes = fs.readFileSync(path.join(folder, name)).subarray(0, 8)
      return bytes.length === 8 && [0, 4].some(offset => kindByMagic.has(bytes.readUInt32LE(offset)))
    })
}

const dumps: ReadonlyArray<
  readonly [title: string, version: '4.1' | '4.2', what: readonly string[], kinds: readonly string[]]
> = [
  [
    'pipes, unix sockets, epoll, eventfd, timerfd, signalfd, inotify, ptys, deleted files, shared memory, timers',
    '4.1',
    ['pipes', 'unix', 'poll', 'notify', 'pty', 'files', 'shared', 'timers'],
    [
      'pipes-data.img',
      'sk-queues.img',
      'tty-info.img',
      'remap-fpath.img',
      'memfd.img',
      'filelocks.img',
      'fifo-data.img',
    ],
  ],
  ['50 threads', '4.1', ['threads'], []],
  ['sqlite3 in a transaction', '4.2', ['sqlite'], ['pipes-data.img']],
  ['TCP sockets, listening and established', '4.2', ['tcp'], []],
  ['a tree of 300 processes', '4.2', ['tree'], []],
]

describe.each(dumps)('a fresh dump of %s', (_, version, what, kinds) => {
  test(`criu ${version}: every file comes back to the byte, and its JSON is crit's`, async ctx => {
    const program = criuOf(version)
    ctx.skip(typeof program === 'string', program as string)
    const part = version === '4.1' ? 'crit' : 'crit-4.2'
    const missing = critMissing(part)
    ctx.skip(missing !== undefined, missing ?? '')
    if (typeof program === 'string') return
    const { pid } = await startEverything(what, { LEAVES: String(TREE / 12 - 1) })
    const folder = dump(program, pid)
    endSession(pid)
    const names = recordFiles(folder)
    for (const kind of kinds) expect(names).toContain(kind)

    const ours = new Map<string, string>()
    for (const name of names) {
      const bytes = fs.readFileSync(path.join(folder, name))
      const image = decodeImageFile(bytes, name)
      expect([name, Buffer.compare(encodeImageFile(image), bytes)]).toEqual([name, 0])
      const json = writePythonJson(imageToJson(image, { readable: true }), 4)
      expect([name, Buffer.compare(encodeImageFile(imageFromJson(readExactJson(json))), bytes)]).toEqual([
        name,
        0,
      ])
      ours.set(path.join(folder, name), json)
    }
    for (const [file, answer] of askCrit(part, ours)) {
      const name = path.basename(file)
      expect([name, ours.get(file)]).toEqual([name, answer.pretty])
      expect([name, Buffer.compare(answer.again, fs.readFileSync(file))]).toEqual([name, 0])
      const plain = writePythonJson(imageToJson(decodeImageFile(fs.readFileSync(file))))
      expect([name, plain]).toEqual([name, answer.plain])
    }

    // As a model and back: nothing is lost either.
    const image = await readCriu(folder)
    const target = path.join(temporaryFolder(), 'again')
    await writeCriu(image, target)
    for (const name of fs.readdirSync(target))
      expect([
        name,
        Buffer.compare(fs.readFileSync(path.join(target, name)), fs.readFileSync(path.join(folder, name))),
      ]).toEqual([name, 0])
    if (what.includes('tree')) {
      expect(image.processes.length).toBeGreaterThanOrEqual(TREE)
      expect(image.processes.filter(process => process.state === 'zombie')).toHaveLength(1)
    }
    if (what.includes('threads')) expect(image.processes[0]!.threads).toHaveLength(51)
    expect(imago(['inspect', folder]).code).toBe(0)
    // crit's listings stop at a zombie, which has no mappings.
    if (what.includes('tree')) return
    for (const listing of ['ps', 'fds', 'mems', 'rss'])
      expect(imago(['criu', 'x', folder, listing]).stdout).toBe(critListing(part, folder, listing))
  })
})

test('criu restores what imago wrote anew, and the program goes on', async ctx => {
  const program = criuOf('4.1')
  ctx.skip(typeof program === 'string', program as string)
  if (typeof program === 'string') return
  const { pid, folder: own } = await startEverything(['pipes', 'unix', 'poll', 'pty', 'shared', 'threads'])
  const folder = dump(program, pid)
  endSession(pid)
  while (fs.existsSync(`/proc/${pid}`)) await sleep(50)

  // Through JSON, and through the model with its memory written page by page.
  const image = await readCriu(folder)
  const target = path.join(temporaryFolder(), 'again')
  const [root] = image.processes
  const extent = root!.memory.extents.find(each => each.length >= 4096)!
  const memory = root!.memory.patch(extent.address, root!.memory.read(extent.address, 16))
  await writeCriu({ ...image, processes: [{ ...root!, memory }] }, target)
  for (const name of recordFiles(target)) {
    const file = path.join(target, name)
    const json = writePythonJson(imageToJson(decodeImageFile(fs.readFileSync(file)), { readable: true }))
    fs.writeFileSync(file, encodeImageFile(imageFromJson(readExactJson(json))))
  }

  onTestFinished(() => endSession(pid))
  const [command, ...first] = program.command
  const words = ['restore', '-D', target, '-j', '-d', '-v1', '-o', 'restore.log']
  const result = spawnSync(command!, [...first, ...words], {
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const log = fs.readFileSync(path.join(target, 'restore.log'), 'utf8')
  expect([result.status, log.replace(/.*RLIMIT_NOFILE.*\n/, '')]).toEqual([0, ''])
  expect(fs.readdirSync(`/proc/${pid}/task`)).toHaveLength(51)
  expect(fs.readlinkSync(`/proc/${pid}/cwd`)).toBe(own)
  const open = fs.readdirSync(`/proc/${pid}/fd`).map(fd => fs.readlinkSync(`/proc/${pid}/fd/${fd}`))
  expect(open).toContain('anon_inode:[eventpoll]')
  // It still is what it was: a second dump tells the same story.
  const second = await readCriu(dump(program, pid))
  expect(second.processes[0]!.files).toEqual(root!.files)
  expect(second.processes[0]!.mappings.length).toBe(root!.mappings.length)
})
