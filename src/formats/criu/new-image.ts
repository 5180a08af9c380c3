/**
 * The records that CRIU needs and no model holds, for an image of another origin: inventory, the ids of what processes
 * share, folders, and an empty list of seccomp filters. All processes are in the namespaces of whoever restores them.
 */
import type { ProcessImage } from '../../model/process.js'
import type { Loss } from '../format.js'
import type { Entry } from './image-file.js'
import { fs_entry } from './schema/files.js'
import { inventory_entry } from './schema/inventory.js'
import { seccomp_entry, task_kobj_ids_entry } from './schema/tasks.js'
import type { FilesToWrite } from './write-files.js'

/** CRTOOLS_IMAGES_V1_1 and later: two magics a file. */
const IMAGE_VERSION = 2
const UMASK = 0o022

/** Ids of the namespaces, as CRIU numbers them for a task outside of any of its own. */
const namespaces = {
  pid_ns_id: 1,
  net_ns_id: 2,
  ipc_ns_id: 3,
  uts_ns_id: 4,
  time_ns_id: 5,
  mnt_ns_id: 6,
  user_ns_id: 7,
  cgroup_ns_id: 8,
}

export interface NewRecords {
  readonly files: ReadonlyArray<readonly [name: string, kind: string, entries: readonly Entry[]]>
  readonly losses: readonly Loss[]
}

/** The records of an image that had none: an image of another format. */
export function newImageRecords(image: ProcessImage, files: FilesToWrite): NewRecords {
  const losses: Loss[] = []
  const made: [string, string, Entry[]][] = [
    [
      'inventory.img',
      'INVENTORY',
      [
        {
          type: inventory_entry,
          message: {
            img_version: IMAGE_VERSION,
            fdinfo_per_id: true,
            ns_per_id: true,
            root_ids: { vm_id: 1, files_id: 1, fs_id: 1, sighand_id: 1, ...namespaces },
            lsmtype: 0,
            network_lock_method: 0,
          },
        },
      ],
    ],
    ['seccomp.img', 'SECCOMP', [{ type: seccomp_entry, message: { seccomp_filters: [] } }]],
  ]
  for (const process of image.processes) {
    if (process.state === 'zombie') continue
    const { pid } = process
    const own = { vm_id: pid, files_id: pid, fs_id: pid, sighand_id: pid, ...namespaces }
    made.push([`ids-${pid}.img`, 'IDS', [{ type: task_kobj_ids_entry, message: own }]])
    const folder = (path: string | undefined) => files.idOf(path ?? '/')
    if (process.workingDirectory === undefined)
      losses.push({ kind: 'defaulted', subject: `process ${pid}`, field: 'working folder', detail: '/' })
    made.push([
      `fs-${pid}.img`,
      'FS',
      [
        {
          type: fs_entry,
          message: {
            cwd_id: folder(process.workingDirectory),
            root_id: folder(process.rootDirectory),
            umask: process.umask ?? UMASK,
          },
        },
      ],
    ])
    if (process.credentials === undefined || process.layout.brk === 0n)
      losses.push({
        kind: 'dropped',
        subject: `process ${pid}`,
        field: 'what a restore needs',
        detail:
          'the image does not say user and heap: CRIU tools can show the result, criu cannot restore it',
      })
    if (process.signalActions.size === 0)
      losses.push({
        kind: 'defaulted',
        subject: `process ${pid}`,
        field: 'signal actions',
        detail: 'the image does not say: all are the default',
      })
    if (process.credentials?.uid === 0)
      losses.push({
        kind: 'dropped',
        subject: `process ${pid}`,
        field: 'capabilities',
        detail: 'the image does not say which it had: it goes on with none',
      })
  }
  return { files: made, losses }
}
