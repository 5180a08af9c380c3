/**
 * What must hold for a CRIU image directory beyond what any process image must: every file can be decoded and
 * encodes to its own bytes, the files that the process tree needs are there, and each pages file is as long as its
 * page maps say. Cost follows the records: no page is read.
 */
import fs from 'node:fs'
import path from 'node:path'
import { hex } from '../../lib/bytes.js'
import { ImagoError } from '../../lib/errors.js'
import { PAGE_SIZE } from '../../model/memory.js'
import { CriuDirectory } from './directory.js'
import { encodeImageFile } from './image-file.js'
import { PageMapCursor } from './page-map.js'
import { TaskState } from './read-threads.js'
import { fdinfo_entry, file_entry, fs_entry } from './schema/files.js'
import { inventory_entry } from './schema/inventory.js'
import { mm_entry } from './schema/memory.js'
import { core_entry, pstree_entry, task_kobj_ids_entry } from './schema/tasks.js'

/** Raw files: no records to decode. */
const rawNames =
  /^(?:pages-\d+|tmpfs-.*|tmpfs-dev-.*|ifaddr-\d+|route6?-\d+|rule-\d+|ip6?tables-\d+|nftables-\d+|.*\.tar\.gz)\.img$/

/** Problems in words, one each. */
export async function verifyCriu(folder: string): Promise<readonly string[]> {
  const directory = new CriuDirectory(folder)
  const problems: string[] = []
  /** Runs a check; an unreadable file is a problem, not the end. */
  const attempt = (check: () => Iterable<string>) => {
    try {
      problems.push(...check())
    } catch (error) {
      if (!(error instanceof ImagoError)) throw error
      problems.push(error.describe().replaceAll(/\n\s*/g, '; '))
    }
  }
  for (const name of directory.names)
    if (name.endsWith('.img') && !rawNames.test(name) && !/^pagemap-/.test(name))
      attempt(() => recordsOf(directory, name))
  attempt(() => treeOf(directory))
  attempt(() => pagesOf(directory))
  return [...new Set(problems)]
}

function* recordsOf(directory: CriuDirectory, name: string): Generator<string> {
  const file = directory.file(name)!
  if (Buffer.compare(encodeImageFile(file), directory.bytes(name)) !== 0)
    yield `${name}: does not encode to its own bytes`
}

/** The process tree and the files it needs. */
function* treeOf(directory: CriuDirectory): Generator<string> {
  if (directory.messages('inventory.img', inventory_entry).length !== 1)
    yield directory.has('inventory.img') ? 'inventory.img: not one entry' : 'inventory.img is missing'
  const ids = new Set<number>()
  for (const { id } of directory.messages('files.img', file_entry)) {
    if (ids.has(id)) yield `files.img: two files have the id ${id}`
    ids.add(id)
  }
  const known = (id: number) => !directory.has('files.img') || ids.has(id)
  for (const { pid, threads } of directory.messages('pstree.img', pstree_entry)) {
    for (const tid of threads)
      if (!directory.has(`core-${tid}.img`))
        yield `core-${tid}.img is missing: thread ${tid} of process ${pid}`
    const core = directory.messages(`core-${pid}.img`, core_entry)[0]
    if (core === undefined || core.tc?.task_state === TaskState.zombie) continue
    for (const name of [`mm-${pid}.img`, `pagemap-${pid}.img`, `ids-${pid}.img`, `fs-${pid}.img`])
      if (!directory.has(name)) yield `${name} is missing`
    const mm = directory.messages(`mm-${pid}.img`, mm_entry)[0]
    if (mm !== undefined && !known(mm.exe_file_id))
      yield `mm-${pid}.img: the executable is file ${mm.exe_file_id}, which files.img does not have`
    const place = directory.messages(`fs-${pid}.img`, fs_entry)[0]
    if (place !== undefined && !(known(place.cwd_id) && known(place.root_id)))
      yield `fs-${pid}.img: a folder is a file that files.img does not have`
    const shared = directory.messages(`ids-${pid}.img`, task_kobj_ids_entry)[0]
    if (shared === undefined) continue
    const name = `fdinfo-${shared.files_id}.img`
    if (!directory.has(name)) yield `${name} is missing: the open files of process ${pid}`
    for (const { fd, id } of directory.messages(name, fdinfo_entry))
      if (!known(id)) yield `${name}: fd ${fd} is file ${id}, which files.img does not have`
  }
}

/** Pages files against the page maps that speak of them. */
function* pagesOf(directory: CriuDirectory): Generator<string> {
  const needed = new Map<string, { pages: number; maps: string[] }>()
  for (const name of directory.names.filter(each => /^pagemap-.*\.img$/.test(each))) {
    const cursor = new PageMapCursor(directory.bytes(name), path.join(directory.path, name))
    let pages = 0
    let end = 0n
    while (cursor.next()) {
      const { address } = cursor
      if (address < end) yield `${name}: the entry at ${hex(address)} is not behind the one before it`
      end = address + BigInt(cursor.pages) * BigInt(PAGE_SIZE)
      if (cursor.pages === 0) yield `${name}: the entry at ${hex(address)} has no pages`
      if (cursor.place === 'present') pages += cursor.pages
      if (cursor.place === 'parent' && !directory.has('parent'))
        yield `${name}: pages at ${hex(address)} are in a parent image, and there is none`
    }
    const file = `pages-${cursor.pagesId}.img`
    const sum = needed.get(file) ?? { pages: 0, maps: [] }
    needed.set(file, { pages: sum.pages + pages, maps: [...sum.maps, name] })
  }
  for (const [name, { pages, maps }] of needed) {
    if (!directory.has(name)) {
      if (pages > 0) yield `${name} is missing: ${maps.join(', ')} speak of ${pages} pages in it`
      continue
    }
    const { size } = fs.statSync(path.join(directory.path, name))
    if (size !== pages * PAGE_SIZE)
      yield `${name}: ${size} bytes, and ${maps.join(', ')} speak of ${pages} pages (${pages * PAGE_SIZE} bytes)`
  }
  for (const name of directory.names)
    if (/^pages-\d+\.img$/.test(name) && !needed.has(name)) yield `${name}: no page map speaks of it`
}
