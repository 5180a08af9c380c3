/**
 * A CRIU image directory: its files by name, decoded when first asked for. Page maps and raw files are left to
 * `page-map.ts` and `read-memory.ts`: they may be large.
 */
import fs from 'node:fs'
import path from 'node:path'
import { FileSource } from '../../lib/byte-source.js'
import { UnreadableError } from '../../lib/errors.js'
import type { MessageOf, MessageType } from '../../lib/protobuf-schema.js'
import type { Memory } from '../../model/memory.js'
import { decodeImageFile, type ImageFile, messagesOf } from './image-file.js'

/** The files of one image directory, each decoded when it is first asked for. */
export class CriuDirectory {
  readonly path: string
  /** Memory as it was read, by pid: a writer copies the files of what is still the same. */
  readonly memories = new Map<number, Memory>()
  readonly #names: ReadonlySet<string>
  readonly #files = new Map<string, ImageFile>()
  readonly #sources = new Map<string, FileSource>()

  /** @throws UnreadableError when `directory` is no folder that can be read. */
  constructor(directory: string) {
    this.path = directory
    try {
      this.#names = new Set(fs.readdirSync(directory))
    } catch (error) {
      throw new UnreadableError('cannot open the image directory', { file: directory, cause: error })
    }
  }

  /** Names of all files, sorted. */
  get names(): string[] {
    return [...this.#names].sort()
  }

  has(name: string): boolean {
    return this.#names.has(name)
  }

  /** The records of `name`; undefined when there is no such file. @throws UnreadableError */
  file(name: string): ImageFile | undefined {
    if (!this.has(name)) return undefined
    let file = this.#files.get(name)
    if (file === undefined) {
      file = decodeImageFile(this.bytes(name), path.join(this.path, name))
      this.#files.set(name, file)
    }
    return file
  }

  /** The messages of `name`, all of `type`; none when there is no such file. */
  messages<T extends MessageType>(name: string, type: T): MessageOf<T>[] {
    const file = this.file(name)
    return file === undefined ? [] : messagesOf(file, type)
  }

  /** The messages of `name`, of which there must be some. @throws UnreadableError when there are none. */
  someMessages<T extends MessageType>(name: string, type: T): MessageOf<T>[] {
    this.message(name, type)
    return this.messages(name, type)
  }

  /** The only message of `name`. @throws UnreadableError when the file or its entry is missing. */
  message<T extends MessageType>(name: string, type: T): MessageOf<T> {
    const found = this.messages(name, type)[0]
    if (found === undefined)
      throw new UnreadableError(
        this.has(name) ? 'an image file without an entry' : 'an image file is missing',
        {
          file: path.join(this.path, name),
          expected: type.name,
        },
      )
    return found
  }

  /** All bytes of a file with records. */
  bytes(name: string): Uint8Array {
    const source = new FileSource(path.join(this.path, name))
    try {
      return source.read(0, source.size)
    } finally {
      source.close()
    }
  }

  /** A file that memory extents point into, opened once. */
  source(name: string): FileSource {
    let source = this.#sources.get(name)
    if (source === undefined) {
      source = new FileSource(path.join(this.path, name))
      this.#sources.set(name, source)
    }
    return source
  }

  /** Closes what `source` opened: after this, memory that was read cannot be. */
  close(): void {
    for (const source of this.#sources.values()) source.close()
  }

  /** The image that this one builds on (incremental dumps), or undefined. */
  get parent(): CriuDirectory | undefined {
    if (!this.has('parent')) return undefined
    const link = path.join(this.path, 'parent')
    try {
      // The real place: names must not grow when links lead in a circle.
      return new CriuDirectory(fs.realpathSync(link))
    } catch (error) {
      throw new UnreadableError('the parent image cannot be opened', { file: link, cause: error })
    }
  }
}
