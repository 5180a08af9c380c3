/**
 * The private notes of a restartable ELF core: one table, from which `native/common/note-layout.h` is generated
 * (`scripts/generate-note-layout.mjs`; a unit test holds the two together). `docs/formats/core.md` tells the whole format.
 *
 * Every private note has the name "IMAGO" and one of the types below; its descriptor is a list of records and
 * the strings they point to, little endian:
 *
 *   ┌────────────┬─────────────┬──────────────┬──────────┬────────────────────────┬─────────┐
 *   │ recordSize │ recordCount │ stringsSize  │ 0        │ recordCount × record    │ strings │
 *   │ u32        │ u32         │ u32          │ u32      │ recordSize bytes each   │         │
 *   └────────────┴─────────────┴──────────────┴──────────┴────────────────────────┴─────────┘
 *
 * A `string` field is (u32 offset, u32 length) into the strings; it holds raw bytes, with no NUL.
 * How it grows: new fields come at the end of a record (a reader takes what it knows of `recordSize` and treats what
 * is missing as zero), new kinds of record get a new type (a reader skips types it does not know). `version` of the image record
 * changes only when an old reader would go wrong. Fields are in natural alignment without padding.
 */

/** Name of the private notes (with its NUL: 6 bytes, as namesz says). */
export const NOTE_NAME = 'IMAGO'
/** What the image record's `version` says. An image has the lowest that its readers must know. */
export const LAYOUT_VERSION = { plain: 1, withMovedPages: 2 } as const
/** Bytes before the first record of a descriptor. */
export const NOTE_HEADER_SIZE = 16

export type FieldType = 'u32' | 'i32' | 'u64' | 'i64' | 'string' | { readonly bytes: number }

export interface Field {
  readonly name: string
  readonly type: FieldType
  /** What it is, and its unit. */
  readonly doc: string
}

export interface RecordKind {
  readonly name: string
  /** Type of the note that holds these records. */
  readonly noteType: number
  readonly doc: string
  readonly fields: readonly Field[]
}

const u32 = (name: string, doc: string): Field => ({ name, type: 'u32', doc })
const i32 = (name: string, doc: string): Field => ({ name, type: 'i32', doc })
const u64 = (name: string, doc: string): Field => ({ name, type: 'u64', doc })
const i64 = (name: string, doc: string): Field => ({ name, type: 'i64', doc })
const text = (name: string, doc: string): Field => ({ name, type: 'string', doc })
const bytes = (name: string, size: number, doc: string): Field => ({ name, type: { bytes: size }, doc })

/** 'IM' in the upper half: no type that the kernel, gdb or binutils give a meaning. */
const TYPE_BASE = 0x494d0000

function kind(number: number, name: string, doc: string, fields: readonly Field[]): RecordKind {
  return { name, noteType: TYPE_BASE + number, doc, fields }
}

export const recordKinds: readonly RecordKind[] = [
  kind(1, 'image', 'One record: how and when the image was made.', [
    u32('version', '2 where there are `moved` records, else 1'),
    u32('machine', 'e_machine of the program: 62 x86-64, 183 aarch64'),
    u32('pageSize', 'bytes'),
    u32('flags', 'imageFlags'),
    u64('captureTime', 'CLOCK_REALTIME at the freeze, ns'),
    u64('monotonicTime', 'CLOCK_MONOTONIC at the freeze, ns'),
    u64('pause', 'how long the program stood still, ns'),
    u64(
      'resumeBlock',
      'address of the resume block of the checkpointer in the image (native/common/resume.h); 0: none',
    ),
    u32('resumeVersion', 'version of the resume block'),
    u32('generation', '1 for a program that was never restored, then one more each time'),
    text('kernelRelease', 'uname -r'),
    text('tool', 'name and version of the writer'),
  ]),
  kind(2, 'process', 'One record: what the kernel keeps once a process.', [
    u32('pid', 'as the process saw itself'),
    u32('parent', ''),
    u32('processGroup', ''),
    u32('session', ''),
    u32('umask', ''),
    u32('personality', 'personality(2)'),
    u32('dumpable', 'PR_GET_DUMPABLE'),
    u32('flags', 'processFlags'),
    u64('startCode', 'prctl_mm_map and /proc/pid/stat, as the eleven after it'),
    u64('endCode', ''),
    u64('startData', ''),
    u64('endData', ''),
    u64('startBrk', ''),
    u64('brk', ''),
    u64('startStack', ''),
    u64('argStart', ''),
    u64('argEnd', ''),
    u64('envStart', ''),
    u64('envEnd', ''),
    u64('vvarStart', 'first of the kernel’s own pages before the vDSO; 0: none'),
    u64('vdsoStart', 'code of the vDSO; 0: none'),
    u64('vdsoEnd', ''),
    u64('timerSlack', 'PR_GET_TIMERSLACK, ns'),
    bytes('name', 16, 'comm, NUL-padded'),
    text('executable', 'target of /proc/self/exe'),
    text('workingDirectory', ''),
    text('rootDirectory', ''),
  ]),
  kind(3, 'thread', 'A record a thread; the first is the thread group leader.', [
    u32('tid', ''),
    u32('flags', 'threadFlags'),
    u64(
      'frame',
      'address of the ucontext_t of its signal frame: rt_sigreturn with the stack pointer there wakes it up',
    ),
    u64('tls', 'thread pointer: FS base, TPIDR_EL0'),
    u64('tls2', 'GS base on x86-64, 0 on aarch64'),
    u64('clearTid', 'set_tid_address'),
    u64('cachedTid', 'address where the C library keeps the tid; 0: unknown'),
    u64('robustHead', 'set_robust_list'),
    u64('robustLength', 'bytes'),
    u64('rseqAddress', '0: not registered'),
    u32('rseqLength', 'bytes'),
    u32('rseqSignature', ''),
    u64('signalMask', 'bit n-1 is signal n'),
    u64('alternateStack', 'sigaltstack ss_sp'),
    u64('alternateStackSize', 'bytes'),
    u32('alternateStackFlags', 'SS_*'),
    i32('nice', ''),
    u32('schedulerPolicy', 'SCHED_*'),
    u32('schedulerPriority', ''),
    bytes('name', 16, 'comm, NUL-padded'),
    u64('affinity', 'first 64 processors of sched_getaffinity; 0: all that there were, or unknown'),
  ]),
  kind(4, 'mapping', 'A record a mapping, by address: what smaps says of it, and where its bytes lie.', [
    u64('start', ''),
    u64('end', 'first address after it'),
    u64('pageOffset', 'offset of `start` in the mapped file or object, bytes'),
    u64('contentOffset', 'where its bytes begin in the image; holes are zeros'),
    u64('contentSize', 'end - start, or 0 when the image does not hold its bytes'),
    u64('storedPages', 'pages that are not all zeros'),
    u64('device', 'st_dev of the mapped file or object, as stat(2) gives it'),
    u64('inode', ''),
    u64('fileSize', 'bytes, when the image was made; for files'),
    i64('fileModified', 'st_mtim, ns; for files'),
    u32('kind', 'mappingKinds'),
    u32('protection', 'PROT_*'),
    u32('flags', 'mappingFlags'),
    u32('advice', 'adviceFlags'),
    u32('checksum', 'CRC-32 (IEEE) of the pages at its contentOffset that are not all zeros, in order'),
    u32('reserved', ''),
    text('path', 'as /proc/pid/maps names it, without " (deleted)"'),
  ]),
  kind(5, 'modified', 'Runs of pages of private file mappings that differ from the file.', [
    u64('start', ''),
    u64('end', ''),
  ]),
  kind(6, 'descriptor', 'A record an open descriptor.', [
    u32('fd', ''),
    u32('flags', '1: close-on-exec'),
    u32('description', 'id of the open file description'),
    u32('reserved', ''),
  ]),
  kind(7, 'description', 'A record an open file description: what several descriptors may share.', [
    u32('id', 'from 1'),
    u32('kind', 'descriptionKinds'),
    u32('flags', 'O_* as F_GETFL gives them, in the numbering of `machine`'),
    u32('mode', 'st_mode'),
    u64('offset', 'bytes'),
    u64('size', 'st_size'),
    u64('device', 'st_dev'),
    u64('inode', 'pipes: the same in both ends'),
    i64('modified', 'st_mtim, ns'),
    u64('specialDevice', 'st_rdev'),
    u64('contentOffset', 'where its content lies in the image (file, pipe, memfd, socket)'),
    u64('contentSize', 'bytes of content in the image'),
    u32('checksum', 'CRC-32 of that content'),
    u32('state', 'descriptionFlags'),
    u64('a', 'descriptionKinds tells what `a` … `f` are'),
    u64('b', ''),
    u64('c', ''),
    u64('d', ''),
    u64('e', ''),
    u64('f', ''),
    i32('owner', 'F_GETOWN_EX: pid'),
    u32('ownerType', 'F_GETOWN_EX: F_OWNER_*'),
    u32('ownerSignal', 'F_GETSIG'),
    u32('reserved', ''),
    text('path', 'target of /proc/self/fd/N, without " (deleted)"'),
    text('extra', 'raw bytes of the kind: termios of a terminal'),
  ]),
  kind(8, 'lock', 'File locks held.', [
    u32('description', 'id'),
    u32('kind', '1 POSIX (fcntl), 2 flock, 3 open file description'),
    u32('type', 'F_RDLCK 0, F_WRLCK 1'),
    u32('reserved', ''),
    u64('start', 'bytes'),
    u64('length', 'bytes; 0: to the end of the file'),
  ]),
  kind(9, 'watch', 'What an epoll watches.', [
    u32('description', 'id of the epoll'),
    u32('fd', 'watched descriptor'),
    u32('events', 'EPOLL*'),
    u32('reserved', ''),
    u64('data', 'epoll_data'),
  ]),
  kind(10, 'action', 'Signal actions that are not the default; never the checkpointer’s own.', [
    u32('signal', ''),
    u32('reserved', ''),
    u64('handler', '1: SIG_IGN'),
    u64('flags', 'SA_*'),
    u64('restorer', ''),
    u64('mask', ''),
  ]),
  kind(11, 'pending', 'Pending signals, in order.', [
    u32('tid', '0: of the whole process'),
    u32('signal', ''),
    bytes('info', 128, 'siginfo_t'),
  ]),
  kind(12, 'intervalTimer', 'Running setitimer(2) timers.', [
    u32('which', '0 real, 1 virtual, 2 profiling'),
    u32('reserved', ''),
    u64('remaining', 'ns'),
    u64('interval', 'ns'),
  ]),
  kind(13, 'posixTimer', 'timer_create(2) timers.', [
    u32('id', 'the kernel’s'),
    i32('clock', 'CLOCK_*'),
    u32('signal', ''),
    u32('notify', 'SIGEV_*: 0 signal, 1 none, 4 thread id'),
    u32('tid', 'whom SIGEV_THREAD_ID notifies'),
    u32('overrun', 'timer_getoverrun'),
    u64('value', 'sigev_value'),
    u64('remaining', 'ns; 0: disarmed'),
    u64('interval', 'ns'),
  ]),
  kind(14, 'limit', 'Resource limits.', [
    u32('resource', 'RLIMIT_*'),
    u32('reserved', ''),
    u64('soft', '2^64-1: unlimited'),
    u64('hard', ''),
  ]),
  kind(15, 'credential', 'One record: user and groups.', [
    u32('uid', ''),
    u32('effectiveUid', ''),
    u32('savedUid', ''),
    u32('fileSystemUid', ''),
    u32('gid', ''),
    u32('effectiveGid', ''),
    u32('savedGid', ''),
    u32('fileSystemGid', ''),
    u64('capabilities', 'effective'),
    u64('permittedCapabilities', ''),
    text('groups', 'supplementary groups, u32 each'),
  ]),
  kind(16, 'loss', 'With --force: what was there and is not in the image.', [
    text('what', 'one line, as the refusal would have said'),
  ]),
  kind(17, 'seal', 'One record, last in the last note: the image is whole when all of it fits.', [
    u64('fileSize', 'bytes of the whole image'),
    u64('notesOffset', 'p_offset of PT_NOTE'),
    u64('notesSize', 'p_filesz of PT_NOTE, this note included'),
    u64('headersOffset', 'e_phoff'),
    u64('headersCount', 'number of program headers'),
    u32('notesChecksum', 'CRC-32 of the notes before this one'),
    u32(
      'headersChecksum',
      'CRC-32 of the program headers, and of the section header after them where there is one',
    ),
    u32('elfChecksum', 'CRC-32 of the 64 bytes of the ELF header'),
    u32('sealChecksum', 'CRC-32 of the bytes of this record before this field'),
  ]),
  kind(
    18,
    'guard',
    'Runs of pages marked MADV_GUARD_INSTALL: touching them ends the program, though its mapping allows it.',
    [u64('start', ''), u64('end', '')],
  ),
  kind(
    19,
    'moved',
    'Runs of pages, by address, whose bytes lie elsewhere than their mapping’s: they changed when the image was rewritten in place.',
    [
      u64('start', ''),
      u64('end', 'in the same mapping: private, anonymous or of the heap'),
      u64('contentOffset', 'where their bytes begin in the image; holes are zeros'),
      u64('storedPages', 'pages that are not all zeros'),
      u32('checksum', 'CRC-32 (IEEE) of its pages that are not all zeros, in order'),
      u32('reserved', ''),
    ],
  ),
]

/** Numbers and bits of the fields above: name → value and meaning. */
export const constants = {
  imageFlags: {
    forced: [1, 'made with --force: see the loss records'],
    blocking: [2, 'the program stood still until the image was written'],
    filesIncluded: [4, 'holds the content of files open for writing'],
  },
  processFlags: {
    noNewPrivileges: [1, ''],
    childSubreaper: [2, ''],
    hugePagesDisabled: [4, 'PR_SET_THP_DISABLE'],
  },
  threadFlags: {
    requested: [1, 'the thread that took the checkpoint signal'],
  },
  mappingKinds: {
    anonymous: [0, ''],
    file: [1, ''],
    heap: [2, 'the brk area'],
    stack: [3, 'of the first thread'],
    vdso: [4, 'never mapped from the image: the kernel brings its own'],
    vvar: [5, 'pages of the kernel before the vDSO: no content'],
    vsyscall: [6, 'no content'],
    memfd: [7, 'memfd_create'],
    sharedAnonymous: [8, 'MAP_SHARED|MAP_ANONYMOUS; the same inode is the same memory'],
  },
  mappingFlags: {
    shared: [1, 'MAP_SHARED'],
    growsDown: [2, 'MAP_GROWSDOWN'],
    noReserve: [4, 'MAP_NORESERVE'],
    deleted: [8, 'the file was unlinked'],
    mayBeReplaced: [16, 'mapped again from its own file when that is unchanged'],
    locked: [32, 'mlock'],
  },
  adviceFlags: {
    sequential: [1, 'MADV_SEQUENTIAL'],
    random: [2, 'MADV_RANDOM'],
    doNotFork: [4, 'MADV_DONTFORK'],
    doNotDump: [8, 'MADV_DONTDUMP'],
    hugePage: [16, 'MADV_HUGEPAGE'],
    noHugePage: [32, 'MADV_NOHUGEPAGE'],
    mergeable: [64, 'MADV_MERGEABLE'],
    wipeOnFork: [128, 'MADV_WIPEONFORK: not kept, as a fork would not'],
  },
  descriptionKinds: {
    regular: [1, ''],
    directory: [2, ''],
    pipe: [3, 'a: capacity in bytes'],
    fifo: [4, 'a: capacity in bytes'],
    terminal: [5, 'a: 1 when it is the controlling terminal; extra: termios'],
    device: [6, 'a character device without state: null, zero, full, random, urandom, tty'],
    eventfd: [7, 'a: counter; b: 1 semaphore'],
    timerfd: [8, 'a: clock; b: settime flags; c: remaining ns; d: interval ns; e: unread expirations'],
    signalfd: [9, 'a: mask'],
    epoll: [10, 'see watch'],
    memfd: [11, 'a: seals'],
    other: [12, 'kept by --force only, as /dev/null'],
    socketPair: [
      13,
      'a stream of which both ends are here. a: inode of the other end; b: 1 shut for reading, 2 for writing; c: SO_SNDBUF; d: SO_RCVTIMEO ns; e: SO_SNDTIMEO ns; f: SO_PASSCRED',
    ],
  },
  descriptionFlags: {
    deleted: [1, 'no name leads to it any more'],
    inherited: [
      2,
      'taken from the restorer’s own descriptor of the same number: terminals of 0–2, pipes and sockets it was started with',
    ],
    contentKept: [4, 'contentOffset and contentSize are valid'],
  },
} as const satisfies Record<string, Record<string, readonly [value: number, meaning: string]>>

/** Bytes that a field takes in its record. */
function fieldSize(type: FieldType): number {
  if (typeof type === 'object') return type.bytes
  return type === 'u32' || type === 'i32' ? 4 : 8
}

/** Offset of each field, in order; the record's size is rounded up to 8. */
export function recordLayout(record: RecordKind): {
  readonly size: number
  readonly offsets: readonly number[]
} {
  let at = 0
  const offsets = record.fields.map(field => {
    const alignment = typeof field.type === 'object' || field.type === 'string' ? 4 : fieldSize(field.type)
    if (at % alignment !== 0) throw new Error(`${record.name}.${field.name} is not aligned`)
    const offset = at
    at += fieldSize(field.type)
    return offset
  })
  return { size: (at + 7) & ~7, offsets }
}

/** The kind with this note type; undefined for one that only a newer imago knows. */
export function recordKindOf(noteType: number): RecordKind | undefined {
  return recordKinds.find(candidate => candidate.noteType === noteType)
}
