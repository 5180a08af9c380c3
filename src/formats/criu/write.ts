/**
 * The process model → a CRIU image directory, whole or not at all.
 *
 * An image that was read from CRIU is written over what it was read from: records keep what the model does not hold
 * (control groups, namespaces, sockets, …), files that nothing touched are copied, and memory that did not change keeps its
 * page map. Where most pages of a large process are as they were, they are shared with the source (share-pages.ts): the
 * cost follows what changed. An image of another format gets new records; what CRIU needs and the model lacks is a loss.
 */
import fs from 'node:fs'
import path from 'node:path'
import { writeDirectoryAtomically } from '../../lib/atomic-file.js'
import { LossError } from '../../lib/errors.js'
import type { Process, ProcessImage } from '../../model/process.js'
import type { Loss } from '../format.js'
import { CriuDirectory } from './directory.js'
import { type Entry, encodeImageFile } from './image-file.js'
import { kindByName } from './image-kinds.js'
import { newImageRecords } from './new-image.js'
import { PageMapCursor } from './page-map.js'
import { readPageMap } from './read-memory.js'
import { fdinfo_entry } from './schema/files.js'
import { mm_entry } from './schema/memory.js'
import { core_entry, pstree_entry, task_kobj_ids_entry } from './schema/tasks.js'
import { linkPages, pagesToShare, takeOver, without } from './share-pages.js'
import { FilesToWrite } from './write-files.js'
import { privateMemory, writeAddressSpace, writePages } from './write-memory.js'
import { writeCore } from './write-threads.js'

/** @throws LossError when the image holds what CRIU's form cannot. */
export async function writeCriu(image: ProcessImage, target: string): Promise<readonly Loss[]> {
  const losses: Loss[] = []
  await writeDirectoryAtomically(target, folder => {
    losses.push(...new Writer(image, folder).write())
  })
  return losses
}

class Writer {
  readonly #image: ProcessImage
  readonly #folder: string
  /** What the image was read from, when that was CRIU. */
  readonly #base: CriuDirectory | undefined
  readonly #files: FilesToWrite
  readonly #written = new Set<string>()
  /** The next number for a pages file. */
  #nextPages: number

  constructor(image: ProcessImage, folder: string) {
    this.#image = image
    this.#folder = folder
    this.#base = image.origin.raw instanceof CriuDirectory ? image.origin.raw : undefined
    this.#files = new FilesToWrite(image, this.#base)
    const used = (this.#base?.names ?? []).map(name => Number(/^pages-(\d+)\.img$/.exec(name)?.[1] ?? 0))
    this.#nextPages = Math.max(0, ...used) + 1
  }

  write(): readonly Loss[] {
    const { processes } = this.#image
    const losses: Loss[] = []
    if (this.#base === undefined) {
      const made = newImageRecords(this.#image, this.#files)
      for (const [name, kind, entries] of made.files) this.#put(name, kind, entries)
      losses.push(...made.losses)
    }
    const base = this.#base?.messages('pstree.img', pstree_entry) ?? []
    this.#put(
      'pstree.img',
      'PSTREE',
      processes.map(process => {
        const before = base.find(entry => entry.pid === process.pid)
        const message = {
          ...before,
          pid: process.pid,
          // CRIU's root has no parent, whoever started it.
          ppid: processes.some(each => each.pid === process.parent) ? process.parent : 0,
          pgid: process.processGroup,
          sid: process.session,
          // The model has no threads of a zombie.
          threads:
            process.state === 'zombie' ? (before?.threads ?? []) : process.threads.map(thread => thread.tid),
        }
        return { type: pstree_entry, message }
      }),
    )
    for (const process of processes) this.#process(process)
    this.#descriptors()
    this.#put('files.img', 'FILES', this.#files.entries)
    this.#copyRest()
    return [...losses, ...this.#files.losses]
  }

  #put(name: string, kindName: string, entries: readonly Entry[]): void {
    const kind = kindByName.get(kindName)!
    const framing = this.#base?.has(name) ? this.#base.file(name)!.framing : kind.framing
    fs.writeFileSync(path.join(this.#folder, name), encodeImageFile({ kind, framing, entries }), {
      mode: 0o600,
    })
    this.#written.add(name)
  }

  #process(process: Process): void {
    const { pid } = process
    const coreOf = (tid: number) => this.#base?.messages(`core-${tid}.img`, core_entry)[0]
    if (process.state === 'zombie') {
      const message = writeCore(this.#image.isa, process, undefined, coreOf(pid))
      this.#put(`core-${pid}.img`, 'CORE', [{ type: core_entry, message }])
      return
    }
    for (const thread of process.threads) {
      const message = writeCore(this.#image.isa, process, thread, coreOf(thread.tid))
      this.#put(`core-${thread.tid}.img`, 'CORE', [{ type: core_entry, message }])
    }
    const before = this.#base?.messages(`mm-${pid}.img`, mm_entry)[0]
    const mm = writeAddressSpace(process, before, this.#files)
    this.#put(`mm-${pid}.img`, 'MM', [{ type: mm_entry, message: mm }])
    this.#pages(process)
  }

  #pages(process: Process): void {
    const name = `pagemap-${process.pid}.img`
    const unchanged = this.#base?.memories.get(process.pid) === process.memory
    // With a parent image the pages of this one are not all of them.
    if (unchanged && !this.#base?.has('parent')) return
    this.#refuseSharedChanges(process)
    const base = this.#base?.has(name) ? this.#base : undefined
    const pagesId = base === undefined ? this.#nextPages++ : this.#pagesIdOf(name)
    const memory = privateMemory(process)
    const shared = base === undefined ? [] : pagesToShare(memory, readPageMap(base, name))
    if (shared.length > 0) linkPages(base!, name, path.join(this.#folder, 'parent'))
    this.#put(name, 'PAGEMAP', writePages(this.#folder, pagesId, without(memory, shared), shared))
    this.#written.add(`pages-${pagesId}.img`)
  }

  #pagesIdOf(name: string): number {
    return new PageMapCursor(this.#base!.bytes(name), name).pagesId
  }

  /** Shared objects are copied as they are: a change in one would be lost. */
  #refuseSharedChanges({ pid, memory, mappings }: Process): void {
    const before = this.#base?.memories.get(pid)
    for (const mapping of mappings) {
      if (!mapping.shared || mapping.kind === 'file') continue
      const now = [...memory.within(mapping.start, mapping.end)]
      const old = before === undefined ? [] : [...before.within(mapping.start, mapping.end)]
      const same =
        now.length === old.length &&
        now.every((extent, i) => {
          const other = old[i]!
          return (
            extent.address === other.address &&
            extent.length === other.length &&
            extent.content.kind === 'slice' &&
            other.content.kind === 'slice' &&
            extent.content.source === other.content.source &&
            extent.content.offset === other.content.offset
          )
        })
      if (!same)
        throw new LossError('shared memory that is not as it was read cannot be written as CRIU images yet', {
          address: mapping.start,
        })
    }
  }

  /** fdinfo-<id>.img for each table of descriptors. */
  #descriptors(): void {
    const done = new Set<number>()
    for (const process of this.#image.processes) {
      if (process.state === 'zombie') continue
      const ids = this.#base?.messages(`ids-${process.pid}.img`, task_kobj_ids_entry)[0]
      const tableId = ids?.files_id ?? process.pid
      if (done.has(tableId)) continue
      done.add(tableId)
      const name = `fdinfo-${tableId}.img`
      const before = this.#base?.messages(name, fdinfo_entry) ?? []
      const entryOf = (fd: number) => before.find(info => info.fd === fd)
      const order = (fd: number) => {
        const at = before.findIndex(info => info.fd === fd)
        return at < 0 ? before.length : at
      }
      const kept = process.files
        .filter(descriptor => this.#files.has(descriptor.description))
        .sort((a, b) => order(a.fd) - order(b.fd))
      this.#put(
        name,
        'FDINFO',
        kept.map(descriptor => ({
          type: fdinfo_entry,
          message: {
            ...entryOf(descriptor.fd),
            id: descriptor.description,
            flags: ((entryOf(descriptor.fd)?.flags ?? 0) & ~1) | (descriptor.closeOnExec ? 1 : 0),
            type: entryOf(descriptor.fd)?.type ?? this.#files.typeOf(descriptor.description),
            fd: descriptor.fd,
          },
        })),
      )
    }
  }

  /** All files of the source that were not written anew. */
  #copyRest(): void {
    const base = this.#base
    if (base === undefined) return
    const ends = new Set(this.#image.processes.map(process => String(process.pid)))
    for (const name of base.names) {
      if (this.#written.has(name) || name === 'parent' || !name.endsWith('.img')) continue
      const gone = /^(?:mm|pagemap|fs|ids)-(\d+)\.img$/.exec(name)
      if (gone !== null && !ends.has(gone[1]!)) continue
      takeOver(path.join(base.path, name), path.join(this.#folder, name))
    }
  }
}
