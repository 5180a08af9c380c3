/** System calls on names: open, stat, unlink, rename and their kin, all confined to the root folder. */
import type { Guest } from '../guest.js'
import { cPath, hostCall, NR } from '../libc.js'
import { Protection } from '../mappings.js'
import { AT_EMPTY_PATH, allowedMode } from '../open-files.js'
import { span } from './files.js'
import { type Arguments, E, int, row, type SystemCall } from './table.js'

const AT_FDCWD = -100n
const AT_SYMLINK_NOFOLLOW = 0x100
const AT_REMOVEDIR = 0x200
const EMPTY = Buffer.from([0])

/** The path at `address`, absolute within the root; a number is minus errno. */
function pathAt(guest: Guest, address: bigint, directory = AT_FDCWD, allowEmpty = false): string | number {
  const text = guest.memory.string(address)
  if (text === undefined) return -E.ENAMETOOLONG
  if (text === '' && !allowEmpty) return -E.ENOENT
  const from = text.startsWith('/') ? '/' : guest.files.startOf(int(directory))
  return typeof from === 'number' ? from : guest.files.absolute(text, from)
}

/** Calls `act` with the path, or gives its error back. */
function withName(guest: Guest, address: bigint, directory: bigint, act: (path: string) => number): number {
  const path = pathAt(guest, address, directory)
  return typeof path === 'number' ? path : act(path)
}

/** The same for calls that change the folder. */
const changing = (guest: Guest, address: bigint, directory: bigint, act: (path: string) => number): number =>
  guest.files.readOnly ? -E.EROFS : withName(guest, address, directory, act)

const open = (guest: Guest, directory: bigint, address: bigint, flags: bigint, mode: bigint): number =>
  withName(guest, address, directory, path =>
    guest.files.open(path, int(flags), int(mode) & ~guest.process.umask, guest.memory.string(address)),
  )

function stat(guest: Guest, directory: bigint, address: bigint, into: bigint, flags: number): number {
  guest.memory.writable(into, 144)
  const target = guest.memory.base + into
  if ((flags & AT_EMPTY_PATH) !== 0 && guest.memory.string(address) === '') {
    const file = guest.files.get(int(directory))
    return file === undefined ? -E.EBADF : hostCall(5, file.hostFd, target)
  }
  return withName(guest, address, directory, path =>
    guest.files.withPath(path, (flags & AT_SYMLINK_NOFOLLOW) === 0, fd => hostCall(5, fd, target)),
  )
}

/** statx: struct statx has 256 bytes; the mask and AT_STATX_* are the kernel's to judge. */
function statx(guest: Guest, a: Arguments): number {
  const flags = int(a[2])
  guest.memory.writable(a[4], 256)
  const target = guest.memory.base + a[4]
  const ask = (fd: number) =>
    hostCall(332, fd, EMPTY, (flags & ~AT_SYMLINK_NOFOLLOW) | AT_EMPTY_PATH, a[3], target)
  if ((flags & AT_EMPTY_PATH) !== 0 && guest.memory.string(a[1]) === '') {
    const file = guest.files.get(int(a[0]))
    return file === undefined ? -E.EBADF : ask(file.hostFd)
  }
  return withName(guest, a[1], a[0], path =>
    guest.files.withPath(path, (flags & AT_SYMLINK_NOFOLLOW) === 0, ask),
  )
}

const access = (guest: Guest, directory: bigint, address: bigint, mode: bigint): number =>
  withName(guest, address, directory, path =>
    (int(mode) & 2) !== 0 && guest.files.readOnly
      ? -E.EROFS
      : guest.files.withPath(path, true, fd => hostCall(439, fd, EMPTY, mode, AT_EMPTY_PATH)),
  )

const unlink = (guest: Guest, directory: bigint, address: bigint, flags: number): number =>
  changing(guest, address, directory, path =>
    guest.files.withParent(path, (parent, name) => hostCall(263, parent, name, flags & AT_REMOVEDIR)),
  )

const makeFolder = (guest: Guest, directory: bigint, address: bigint, mode: bigint): number =>
  changing(guest, address, directory, path =>
    guest.files.withParent(path, (parent, name) =>
      hostCall(258, parent, name, allowedMode(mode & BigInt(~guest.process.umask))),
    ),
  )

function rename(guest: Guest, a: Arguments, flags: bigint): number {
  return changing(guest, a[1], a[0], from =>
    withName(guest, a[3], a[2], to =>
      guest.files.withParent(from, (parent, name) =>
        guest.files.withParent(to, (newParent, newName) =>
          hostCall(316, parent, name, newParent, newName, flags),
        ),
      ),
    ),
  )
}

/** symlink: the text is free, as it is followed within the root only. */
const makeLink = (guest: Guest, text: bigint, directory: bigint, address: bigint): number => {
  const target = guest.memory.string(text)
  if (target === undefined) return -E.ENAMETOOLONG
  return changing(guest, address, directory, path =>
    guest.files.withParent(path, (parent, name) =>
      hostCall(266, Buffer.from(`${target}\0`, 'latin1'), parent, name),
    ),
  )
}

function readLink(guest: Guest, directory: bigint, address: bigint, into: bigint, length: bigint): number {
  if (int(length) <= 0) return -E.EINVAL
  const place = span(guest, into, length, Protection.write)
  if (place === undefined) return -E.EFAULT
  return withName(guest, address, directory, path =>
    guest.files.withPath(path, false, fd => hostCall(267, fd, EMPTY, place[0], place[1])),
  )
}

/** utimensat: without a path, on the descriptor itself. */
function setTimes(guest: Guest, a: Arguments): number {
  if (guest.files.readOnly) return -E.EROFS
  const times = a[2] === 0n ? 0n : guest.memory.base + BigInt(guest.memory.readable(a[2], 32))
  if (a[1] === 0n) {
    const file = guest.files.get(int(a[0]))
    return file === undefined ? -E.EBADF : hostCall(280, file.hostFd, 0, times, 0)
  }
  // The last name is followed by opening it first, so that a symlink cannot lead out.
  return withName(guest, a[1], a[0], path =>
    guest.files.withPath(path, (int(a[3]) & AT_SYMLINK_NOFOLLOW) === 0, fd =>
      hostCall(280, fd, EMPTY, times, AT_EMPTY_PATH),
    ),
  )
}

/**
 * A host call on what a name stands for, by its place in /proc: chmod and truncate know no O_PATH descriptor, and one that is
 * opened for them would take the guest's locks when it is closed.
 */
const onFollowed = (guest: Guest, address: bigint, directory: bigint, nr: number, value: bigint): number =>
  changing(guest, address, directory, path =>
    guest.files.withPath(path, true, fd => hostCall(nr, cPath(`/proc/self/fd/${fd}`), value)),
  )

const truncate = (guest: Guest, a: Arguments): number =>
  withName(guest, a[0], AT_FDCWD, path => (guest.files.isOwnImage(path) ? -E.ETXTBSY : 0)) ||
  onFollowed(guest, a[0], AT_FDCWD, NR.truncate, a[1])

/** chown: of what the name stands for, or of the link itself. */
const chown = (guest: Guest, a: Arguments, follow: boolean): number =>
  changing(guest, a[0], AT_FDCWD, path =>
    guest.files.withPath(path, follow, fd => hostCall(260, fd, EMPTY, a[1], a[2], AT_EMPTY_PATH)),
  )

function changeFolder(guest: Guest, path: string): number {
  const { files } = guest
  const fd = files.resolve(path, 0o200000)
  if (fd < 0) return fd
  // Where the kernel really is, seen from the root: symlinks and `..` resolved.
  const buffer = Buffer.alloc(4096)
  const length = hostCall(89, Buffer.from(`/proc/self/fd/${fd}\0`), buffer, buffer.length)
  hostCall(3, fd)
  const real = buffer.toString('latin1', 0, Math.max(0, length))
  const root = Buffer.from(files.rootFolder, 'utf8').toString('latin1')
  files.workingDirectory = real.startsWith(root) ? files.absolute(real.slice(root.length), '/') : path
  return 0
}

function currentFolder(guest: Guest, into: bigint, length: bigint): number {
  const text = Buffer.from(`${guest.files.workingDirectory}\0`, 'latin1')
  if (BigInt(text.length) > length) return -E.ERANGE
  guest.memory.bytes.set(text, guest.memory.writable(into, text.length))
  return text.length
}

export const nameCalls: readonly SystemCall[] = [
  row(2, 'open', 'pnn', (guest, a) => open(guest, AT_FDCWD, a[0], a[1], a[2])),
  row(4, 'stat', 'pa', (guest, a) => stat(guest, AT_FDCWD, a[0], a[1], 0)),
  row(6, 'lstat', 'pa', (guest, a) => stat(guest, AT_FDCWD, a[0], a[1], AT_SYMLINK_NOFOLLOW)),
  row(21, 'access', 'pn', (guest, a) => access(guest, AT_FDCWD, a[0], a[1])),
  row(76, 'truncate', 'pn', truncate),
  row(79, 'getcwd', 'an', (guest, a) => currentFolder(guest, a[0], a[1])),
  row(80, 'chdir', 'p', (guest, a) => withName(guest, a[0], AT_FDCWD, path => changeFolder(guest, path))),
  row(81, 'fchdir', 'n', (guest, a) => {
    const start = guest.files.startOf(int(a[0]))
    return typeof start === 'number' ? start : changeFolder(guest, start)
  }),
  row(82, 'rename', 'pp', (guest, a) => rename(guest, [AT_FDCWD, a[0], AT_FDCWD, a[1], 0n, 0n], 0n)),
  row(83, 'mkdir', 'pn', (guest, a) => makeFolder(guest, AT_FDCWD, a[0], a[1])),
  row(84, 'rmdir', 'p', (guest, a) => unlink(guest, AT_FDCWD, a[0], AT_REMOVEDIR)),
  row(85, 'creat', 'pn', (guest, a) => open(guest, AT_FDCWD, a[0], 0o1101n, a[1])),
  row(87, 'unlink', 'p', (guest, a) => unlink(guest, AT_FDCWD, a[0], 0)),
  row(88, 'symlink', 'pp', (guest, a) => makeLink(guest, a[0], AT_FDCWD, a[1])),
  row(89, 'readlink', 'pan', (guest, a) => readLink(guest, AT_FDCWD, a[0], a[1], a[2])),
  row(90, 'chmod', 'pn', (guest, a) => onFollowed(guest, a[0], AT_FDCWD, NR.chmod, allowedMode(a[1]))),
  row(92, 'chown', 'pnn', (guest, a) => chown(guest, a, true)),
  row(94, 'lchown', 'pnn', (guest, a) => chown(guest, a, false)),
  row(137, 'statfs', 'pa', (guest, a) => {
    guest.memory.writable(a[1], 120)
    return withName(guest, a[0], AT_FDCWD, path =>
      guest.files.withPath(path, true, fd => hostCall(138, fd, guest.memory.base + a[1])),
    )
  }),
  row(257, 'openat', 'npnn', (guest, a) => open(guest, a[0], a[1], a[2], a[3])),
  row(258, 'mkdirat', 'npn', (guest, a) => makeFolder(guest, a[0], a[1], a[2])),
  row(262, 'newfstatat', 'npan', (guest, a) => stat(guest, a[0], a[1], a[2], int(a[3]))),
  row(263, 'unlinkat', 'npn', (guest, a) => unlink(guest, a[0], a[1], int(a[2]))),
  row(264, 'renameat', 'npnp', (guest, a) => rename(guest, a, 0n)),
  row(266, 'symlinkat', 'pnp', (guest, a) => makeLink(guest, a[0], a[1], a[2])),
  row(267, 'readlinkat', 'npan', (guest, a) => readLink(guest, a[0], a[1], a[2], a[3])),
  row(268, 'fchmodat', 'npn', (guest, a) => onFollowed(guest, a[1], a[0], NR.chmod, allowedMode(a[2]))),
  row(269, 'faccessat', 'npn', (guest, a) => access(guest, a[0], a[1], a[2])),
  row(280, 'utimensat', 'npan', setTimes),
  row(316, 'renameat2', 'npnpn', (guest, a) => rename(guest, a, a[4])),
  row(332, 'statx', 'npnna', statx),
  row(439, 'faccessat2', 'npnn', (guest, a) => access(guest, a[0], a[1], a[2])),
]
