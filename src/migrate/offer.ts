/**
 * What the source's disk says of a machine that is being given away. Each step is one rename, or one small write, synced:
 * a kill at any moment leaves one of these lines, and the same `vm send` goes on from there.
 *
 *   IMAGE                        ours
 *   IMAGE       IMAGE.sending    offered: the target may have it all, but is not told to run it
 *   IMAGE.sent  IMAGE.sending    given: the target is, or will be, told to run it; only it knows whether it does
 *   IMAGE.sent                   gone: it runs at the target
 *
 * Offered → ours: IMAGE.sending goes, and with it the id that alone could tell the target to run it.
 * Given → ours: only when the target itself says that it does not have the machine.
 * IMAGE.sending is JSON (`Marker`), and locked with flock while a process sends.
 */
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { syncDirectory, writeFully } from '../lib/atomic-file.js'
import { ImagoError, LossError, PeerError, UnreadableError } from '../lib/errors.js'
import { lockFile } from '../lib/libc.js'

const ID = /^[0-9a-f-]{36}$/
/** One write holds all of it. */
const MARKER_SIZE = 256
const markerOf = (image: string) => `${image}.sending`
const sentOf = (image: string) => `${image}.sent`

interface Marker {
  readonly id: string
  /** The id is of a transfer from a running guest: IMAGE is an earlier state of it. */
  readonly live: boolean
  /** Checksum of the image that was offered: another one under its name is another machine. */
  readonly content: string
  /** The target's store, once it was told to run the machine. */
  readonly store?: string | undefined
}

export class Offer {
  readonly image: string
  readonly #fd: number
  #marker: Marker
  #decided: boolean

  private constructor(image: string, fd: number, marker: Marker, decided: boolean) {
    this.image = image
    this.#fd = fd
    this.#marker = marker
    this.#decided = decided
  }

  /**
   * Offers an image, or takes up the offer that a killed process left of the same image.
   * @param content checksum of the image
   * @param live the id stands for a running guest, of which the image is an earlier state
   * @throws PeerError while another process sends it, UnreadableError when there is nothing to send
   */
  static open(image: string, contentOf: (path: string) => string, live = false): Offer {
    const decided = !fs.existsSync(image) && fs.existsSync(sentOf(image))
    if (decided && !fs.existsSync(markerOf(image)))
      throw new UnreadableError('this machine was sent before, and runs at its target', {
        file: sentOf(image),
        hint: `to send this copy of it all the same: mv ${sentOf(image)} ${image}`,
      })
    if (!decided && !fs.existsSync(image)) throw new UnreadableError('no such image', { file: image })
    const content = contentOf(decided ? sentOf(image) : image)
    const fd = lockMarker(markerOf(image))
    const found = readMarker(fd, markerOf(image))
    const offer = new Offer(image, fd, found ?? freshMarker(content, live), decided)
    if (found === undefined || (!decided && (live || found.content !== content))) offer.renew(content, live)
    return offer
  }

  /** @throws PeerError when a machine of that name was given away, and nobody has asked yet whether it runs */
  static refuseInDoubt(image: string): void {
    if (!fs.existsSync(image) && fs.existsSync(sentOf(image)) && fs.existsSync(markerOf(image)))
      throw new PeerError('an earlier send under this name is not finished', {
        file: markerOf(image),
        hint: `imago vm send ${image} HOST:PORT asks the target; or choose another name with -o`,
      })
  }

  get id(): string {
    return this.#marker.id
  }
  get live(): boolean {
    return this.#marker.live
  }
  get decided(): boolean {
    return this.#decided
  }
  get store(): string | undefined {
    return this.#marker.store
  }
  /** Where the image is now. */
  get path(): string {
    return this.#decided ? sentOf(this.image) : this.image
  }

  /** Another id: what the target has under the old one is never run. */
  renew(content = this.#marker.content, live = false): void {
    this.#write(freshMarker(content, live))
    syncDirectory(path.dirname(this.image))
  }

  /** From here on only the target may run the machine. @throws ImagoError when that cannot be written down: it is still ours */
  decide(store: string): void {
    try {
      this.#write({ ...this.#marker, store })
      fs.renameSync(this.image, sentOf(this.image))
      this.#decided = true
      syncDirectory(path.dirname(this.image))
    } catch (cause) {
      throw new ImagoError('the decision to give the machine away cannot be written down', {
        file: this.image,
        found: (cause as Error).message,
        cause,
      })
    }
  }

  /** The target runs it. */
  gone(): void {
    this.#removeMarker()
  }

  /** Nobody runs it: it is ours again. */
  takeBack(): void {
    if (this.#decided) fs.renameSync(sentOf(this.image), this.image)
    this.#decided = false
    this.#removeMarker()
  }

  #removeMarker(): void {
    fs.rmSync(markerOf(this.image), { force: true })
    syncDirectory(path.dirname(this.image))
    fs.closeSync(this.#fd)
  }

  /** Lets go of the lock; the offer stands as it is. */
  close(): void {
    fs.closeSync(this.#fd)
  }

  #write(marker: Marker): void {
    writeFully(this.#fd, Buffer.from(`${JSON.stringify(marker).padEnd(MARKER_SIZE - 1)}\n`), 0)
    fs.fsyncSync(this.#fd)
    this.#marker = marker
  }
}

const freshMarker = (content: string, live: boolean): Marker => ({ id: crypto.randomUUID(), live, content })

/** Opens and locks, making it when missing. @throws PeerError */
function lockMarker(marker: string): number {
  for (;;) {
    const fd = fs.openSync(marker, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600)
    if (!lockFile(fd)) {
      fs.closeSync(fd)
      throw new PeerError('another process is sending this machine', { file: marker })
    }
    // Its last owner may have removed it meanwhile: then the lock is on a file without a name.
    if (fs.existsSync(marker) && fs.statSync(marker).ino === fs.fstatSync(fd).ino) return fd
    fs.closeSync(fd)
  }
}

/** Undefined: just made. @throws UnreadableError */
function readMarker(fd: number, file: string): Marker | undefined {
  const bytes = Buffer.alloc(MARKER_SIZE)
  const text = bytes.toString('utf8', 0, fs.readSync(fd, bytes, 0, MARKER_SIZE, 0)).trim()
  if (text === '') return undefined
  try {
    const { id, live, content, store } = JSON.parse(text) as Partial<Marker>
    if (typeof id === 'string' && ID.test(id) && typeof content === 'string')
      return { id, live: live === true, content, store: typeof store === 'string' ? store : undefined }
  } catch {
    // said below
  }
  fs.closeSync(fd)
  throw new UnreadableError('this is no mark of a transfer', { file })
}

/**
 * Before a guest runs from an image on this host: nobody else may be told to run it. An offer of it is withdrawn; returns
 * what the user should know of that.
 * @throws LossError for a machine that was given away, or whose source has not given it up; PeerError while it is sent.
 */
export function claimImage(image: string): string | undefined {
  const whole = image.replace(/\.sent$/, '')
  if (whole !== image) {
    const asked = fs.existsSync(markerOf(whole))
    throw new LossError('this machine was given to another host: it would run twice', {
      file: image,
      hint: asked
        ? `imago vm send ${whole} HOST:PORT asks the target whether it runs`
        : `if it is gone there: mv ${image} ${whole}, and restore that`,
    })
  }
  const { dir, name, ext } = path.parse(image)
  if (ext === '.vm' && ID.test(name) && fs.existsSync(path.join(dir, 'store-id')))
    return claimArrived(dir, name)
  if (!fs.existsSync(markerOf(image))) return undefined
  Offer.open(image, () => '').takeBack()
  return 'the offer of this machine to another host is withdrawn'
}

/** An image in the store of `vm serve`. */
function claimArrived(store: string, id: string): undefined {
  const started = path.join(store, `${id}.started`)
  if (!fs.existsSync(started))
    throw new LossError('the source of this machine has not given it up: it would run twice', {
      file: path.join(store, `${id}.vm`),
      hint: 'imago vm serve, and the same imago vm send again',
    })
  holdStarted(started)
  return undefined
}

/**
 * Notes that a guest that arrived runs in this process, until it ends.
 * @throws LossError when it runs in another
 */
export function holdStarted(started: string): void {
  const fd = fs.openSync(started, 'r')
  if (!lockFile(fd)) throw new LossError('this machine runs already', { file: started })
}
