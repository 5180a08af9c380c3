import { Memory } from '../../src/model/memory.js'
import type { Mapping, Process, ProcessImage, Thread } from '../../src/model/process.js'

/** A small, sound process image; override what the test is about. */
export function someProcess(changes: Partial<Process> = {}): Process {
  return {
    pid: 100,
    parent: 1,
    processGroup: 100,
    session: 100,
    name: 'prog',
    executable: '/bin/prog',
    state: 'alive',
    threads: [someThread()],
    mappings: [
      someMapping(0x1000n, 0x3000n, { execute: true }),
      someMapping(0x7000n, 0x9000n, { write: true }),
    ],
    memory: Memory.empty,
    layout: {
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
    },
    files: [],
    workingDirectory: '/',
    rootDirectory: '/',
    umask: 0o22,
    signalActions: new Map(),
    pendingSignals: [],
    intervalTimers: [],
    posixTimers: [],
    limits: new Map(),
    credentials: undefined,
    ...changes,
  }
}

export function someThread(changes: Partial<Thread> = {}): Thread {
  return {
    tid: 100,
    name: 'prog',
    registers: {
      general: new Map([
        ['rip', 0x1010n],
        ['rsp', 0x8000n],
        ['rax', 1n],
      ]),
      vector: undefined,
    },
    signalMask: 0n,
    pendingSignals: [],
    alternateStack: undefined,
    clearTidAddress: 0n,
    robustList: undefined,
    rseq: undefined,
    ...changes,
  }
}

export function someMapping(start: bigint, end: bigint, changes: Partial<Mapping> = {}): Mapping {
  return {
    start,
    end,
    read: true,
    write: false,
    execute: false,
    shared: false,
    kind: 'anonymous',
    growsDown: false,
    advice: [],
    ...changes,
  }
}

export function someImage(processes: Process[] = [someProcess()]): ProcessImage {
  return {
    isa: 'x86-64',
    processes,
    descriptions: new Map(),
    origin: { format: 'test', path: '', notes: {} },
  }
}
