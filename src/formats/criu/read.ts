/**
 * A CRIU image directory → the process model.
 *
 *   pstree.img ─┬─ core-<tid>.img      registers, signals, timers, limits, credentials
 *               ├─ mm-<pid>.img        mappings, layout          pagemap-<pid>.img → pages-<id>.img   memory
 *               ├─ ids-<pid>.img       files_id → fdinfo-<id>.img → files.img
 *               └─ fs-<pid>.img        working folder, root, umask
 */
import { UnreadableError } from '../../lib/errors.js'
import { limits } from '../../lib/limits.js'
import type { MessageOf } from '../../lib/protobuf-schema.js'
import { Memory } from '../../model/memory.js'
import type {
  AddressSpaceLayout,
  FileDescription,
  FileDescriptor,
  IsaName,
  Process,
  ProcessImage,
} from '../../model/process.js'
import { CriuDirectory } from './directory.js'
import { CriuFiles } from './read-files.js'
import { readLayout, readMapping, readMemory, readPageMap, sharedObject, type Vma } from './read-memory.js'
import {
  type Core,
  isaOf,
  readCredentials,
  readIntervalTimers,
  readLimits,
  readPosixTimers,
  readProcessSignals,
  readSignalActions,
  readThread,
  TaskState,
} from './read-threads.js'
import { lsmtype } from './schema/enums.js'
import { fdinfo_entry, fs_entry } from './schema/files.js'
import { inventory_entry } from './schema/inventory.js'
import { mm_entry, vma_entry } from './schema/memory.js'
import { utsns_entry } from './schema/namespaces.js'
import { core_entry, pstree_entry, task_kobj_ids_entry } from './schema/tasks.js'

const FD_CLOEXEC = 1
const noLayout: AddressSpaceLayout = {
  startCode: 0n,
  endCode: 0n,
  startData: 0n,
  endData: 0n,
  startStack: 0n,
  startBrk: 0n,
  brk: 0n,
  argStart: 0n,
  argEnd: 0n,
  envStart: 0n,
  envEnd: 0n,
  auxv: [],
}

/** What a zombie has no more. */
const nothingLeft = {
  executable: undefined,
  threads: [],
  mappings: [],
  memory: Memory.empty,
  layout: noLayout,
  files: [],
  workingDirectory: undefined,
  rootDirectory: undefined,
  umask: undefined,
}

/** @throws UnreadableError */
export async function readCriu(folder: string): Promise<ProcessImage> {
  const directory = new CriuDirectory(folder)
  try {
    return readImage(directory)
  } catch (error) {
    directory.close()
    throw error
  }
}

function readImage(directory: CriuDirectory): ProcessImage {
  const folder = directory.path
  const tree = directory.someMessages('pstree.img', pstree_entry)
  if (tree.length > limits.processes)
    throw new UnreadableError('too many processes', { found: tree.length, expected: `${limits.processes}` })
  const files = new CriuFiles(directory)
  const objects = new Map<bigint, Memory>()
  const shared = (shmid: bigint) => {
    let memory = objects.get(shmid)
    if (memory === undefined) {
      memory = readPageMap(directory, `pagemap-shmem-${shmid}.img`)
      objects.set(shmid, memory)
    }
    return memory
  }
  const descriptions = new Map<number, FileDescription>()
  const processes = tree.map(entry => readProcess(directory, files, entry, shared))
  for (const { files: descriptors } of processes)
    for (const { description } of descriptors)
      if (!descriptions.has(description)) descriptions.set(description, files.describe(description))
  return {
    isa: isaOfImage(directory, tree),
    processes,
    descriptions,
    origin: { format: 'criu', path: folder, notes: notes(directory), raw: directory },
  }
}

function isaOfImage(directory: CriuDirectory, tree: ReadonlyArray<{ readonly pid: number }>): IsaName {
  for (const { pid } of tree) {
    const core = directory.messages(`core-${pid}.img`, core_entry)[0]
    if (core?.thread_info !== undefined || core?.ti_aarch64 !== undefined) return isaOf(core)
  }
  return isaOf(directory.message(`core-${tree[0]!.pid}.img`, core_entry))
}

function readProcess(
  directory: CriuDirectory,
  files: CriuFiles,
  entry: MessageOf<typeof pstree_entry>,
  shared: (shmid: bigint) => Memory,
): Process {
  const core = directory.message(`core-${entry.pid}.img`, core_entry)
  const kept = readWhatZombiesKeep(directory, entry, core)
  if (kept.state === 'zombie') return { ...kept, ...nothingLeft, exitStatus: core.tc!.exit_code }
  isaOf(core) // that this ISA is not known is said before anything about memory
  return {
    ...kept,
    ...readAddressSpace(directory, files, entry.pid, shared),
    threads: readThreads(directory, entry, core),
    files: readDescriptors(directory, entry.pid),
    ...readPlace(directory, files, entry.pid),
  }
}

/** What a process has until its parent has asked for its exit status. */
function readWhatZombiesKeep(
  directory: CriuDirectory,
  { pid, ppid, pgid, sid }: MessageOf<typeof pstree_entry>,
  core: Core,
) {
  return {
    pid,
    parent: ppid,
    processGroup: pgid,
    session: sid,
    name: core.tc?.comm ?? '',
    state: stateOf(core),
    signalActions: readSignalActions(directory, pid, core),
    pendingSignals: readProcessSignals(directory, pid, core),
    intervalTimers: readIntervalTimers(directory, pid, core),
    posixTimers: readPosixTimers(directory, pid, core),
    limits: readLimits(directory, pid, core),
    credentials: readCredentials(directory, pid, core),
  }
}

function stateOf(core: Core): Process['state'] {
  if (core.tc?.task_state === TaskState.zombie) return 'zombie'
  return core.tc?.task_state === TaskState.stopped ? 'stopped' : 'alive'
}

function readAddressSpace(
  directory: CriuDirectory,
  files: CriuFiles,
  pid: number,
  shared: (shmid: bigint) => Memory,
) {
  const mm = directory.message(`mm-${pid}.img`, mm_entry)
  const layout = readLayout(mm)
  const vmas: readonly Vma[] = mm.vmas.length > 0 ? mm.vmas : directory.messages(`vmas-${pid}.img`, vma_entry)
  const objectOf = (vma: Vma) => sharedObject(vma, id => files.memfdShmid(id))
  const memory = readMemory(directory, pid, vmas, objectOf, shared)
  directory.memories.set(pid, memory)
  return {
    executable: files.path(mm.exe_file_id)?.path,
    mappings: vmas.map(vma => readMapping(vma, layout, id => files.path(id))),
    layout,
    memory,
  }
}

/** Where in the file system the process stands. */
function readPlace(directory: CriuDirectory, files: CriuFiles, pid: number) {
  const fs = directory.messages(`fs-${pid}.img`, fs_entry)[0]
  return {
    workingDirectory: fs && files.path(fs.cwd_id)?.path,
    rootDirectory: fs && files.path(fs.root_id)?.path,
    umask: fs?.umask,
  }
}

function readThreads(directory: CriuDirectory, { pid, threads }: MessageOf<typeof pstree_entry>, main: Core) {
  if (threads.length > limits.threads)
    throw new UnreadableError('too many threads', { found: threads.length, expected: `${limits.threads}` })
  return threads.map(tid =>
    readThread(tid, tid === pid ? main : directory.message(`core-${tid}.img`, core_entry), main),
  )
}

function readDescriptors(directory: CriuDirectory, pid: number): FileDescriptor[] {
  // Processes that share their table have the same files_id; the oldest dumps name the file by pid.
  const id = directory.messages(`ids-${pid}.img`, task_kobj_ids_entry)[0]?.files_id ?? pid
  return directory
    .messages(`fdinfo-${id}.img`, fdinfo_entry)
    .map(info => ({ fd: info.fd, closeOnExec: (info.flags & FD_CLOEXEC) !== 0, description: info.id }))
    .sort((a, b) => a.fd - b.fd)
}

/** The files that tell of a namespace that was dumped with the processes. */
const namespaceFiles: Readonly<Record<string, RegExp>> = {
  mount: /^mountpoints-\d+\.img$/,
  network: /^netns-\d+\.img$/,
  ipc: /^ipcns-var-\d+\.img$/,
  uts: /^utsns-\d+\.img$/,
  pid: /^pidns-\d+\.img$/,
  user: /^userns-\d+\.img$/,
  time: /^timens-\d+\.img$/,
}

function notes(directory: CriuDirectory): Record<string, string> {
  const inventory = directory.messages('inventory.img', inventory_entry)[0]
  const found: Record<string, string> = {}
  if (inventory !== undefined) {
    found['image version'] = `${inventory.img_version}`
    if (inventory.lsmtype !== undefined)
      found['security module'] = lsmtype.names.get(inventory.lsmtype) ?? `${inventory.lsmtype}`
    if (inventory.dump_criu_run_id !== undefined) found['dump id'] = inventory.dump_criu_run_id
  }
  const inNamespaces = Object.entries(namespaceFiles)
    .filter(([, pattern]) => directory.names.some(name => pattern.test(name)))
    .map(([name]) => name)
  if (inNamespaces.length > 0) found.namespaces = inNamespaces.join(', ')
  for (const name of directory.names.filter(each => /^utsns-\d+\.img$/.test(each)))
    found['host name'] = directory.message(name, utsns_entry).nodename
  if (directory.has('parent')) found.parent = 'incremental: builds on the image at parent'
  return found
}
