/** What the main thread and the worker of a guest say to each other. */
import type { MessagePort } from 'node:worker_threads'
import type { ErrorDetails } from '../../lib/errors.js'
import type { StopHandle } from './cpu.js'
import type { FilePolicy } from './restore-files.js'

export type EngineName = 'kvm' | 'unicorn'

export type Start =
  | {
      readonly kind: 'program'
      readonly file: string
      readonly argv: readonly string[]
      readonly environment: readonly string[]
      readonly memorySize: number
      readonly rootFolder: string
      /** Laid out as the ScratchVM does, so that its image can be written. */
      readonly seedLayout?: boolean | undefined
      /** Begun by this flat file at 0x8000 in real mode, as the ScratchVM does. */
      readonly bootFile?: string | undefined
    }
  | {
      readonly kind: 'image'
      readonly path: string
      readonly rootFolder: string | undefined
      readonly files: FilePolicy
      readonly ignoreCpu: boolean
    }

export interface WorkerSetup {
  readonly engine: EngineName
  readonly start: Start
  readonly readOnly: boolean
  readonly trace: boolean
  readonly shared: SharedArrayBuffer
  /** An eventfd: readable while the guest is to stop. */
  readonly wakeFd: number
  /** Takes the moment (CLOCK_MONOTONIC in ns, or undefined) at which the CPU is to be kicked. */
  readonly alarms: MessagePort
}

/** Guest memory as the main thread has it. */
export interface MemoryHandle {
  readonly base: bigint
  /** Guest address 0 is its first byte; it may be a little longer than `totalSize`. */
  readonly buffer: SharedArrayBuffer
  readonly totalSize: number
  readonly memorySize: number
}

export interface Report {
  readonly systemCalls: number
  readonly unknown: ReadonlyMap<number, number>
}

export type Ended =
  | { readonly kind: 'exit'; readonly code: number; readonly signal?: number | undefined }
  | { readonly kind: 'fault'; readonly code: number; readonly report: readonly string[] }
  | { readonly kind: 'save-requested' }
  | { readonly kind: 'stopped' }

export type Request =
  | { readonly command: 'run' }
  | { readonly command: 'save'; readonly path: string; readonly withFiles: boolean }
  | { readonly command: 'describe'; readonly withFiles: boolean }
  | { readonly command: 'let locks go' }
  | { readonly command: 'take locks' }
  | { readonly command: 'release' }

export type Reply =
  | {
      readonly kind: 'ready'
      readonly stop: StopHandle
      readonly memory: MemoryHandle
      readonly dirty: Int32Array
      /** The program chooses its code by the CPU (glibc): its images are bound to it. */
      readonly boundToCpu: boolean
    }
  | { readonly kind: 'ended'; readonly ended: Ended; readonly report: Report }
  | { readonly kind: 'saved'; readonly memoryBytes: number; readonly totalBytes: number }
  | {
      readonly kind: 'described'
      /** A header of the format microvm without extents. */
      readonly header: Uint8Array
      /** Contents of files and pipes, by index of the file. */
      readonly contents: ReadonlyMap<number, Uint8Array>
    }
  | { readonly kind: 'done' }
  | {
      readonly kind: 'failed'
      readonly name: string
      readonly message: string
      readonly details: ErrorDetails
    }
