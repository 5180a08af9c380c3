/** Waking up an image: myrestart checks it and becomes the program. */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import type { Readable } from 'node:stream'
import { plain } from '../../formats/core/compressed.js'
import { HostError, ImagoError, LossError, UnreadableError, UsageError } from '../../lib/errors.js'
import type { RestoredProcess, RestoreOptions } from '../engine.js'
import { restorerFor } from './restorer.js'

/** Descriptor on which myrestart tells how it goes. */
const REPORT = 3

/** Wakes an image up by myrestart, unpacked first where it is compressed. @throws ImagoError */
export async function restore(image: string, options: RestoreOptions): Promise<RestoredProcess> {
  const file = path.resolve(image)
  const copy = plain(file)
  try {
    return await wakeUp(copy, options)
  } finally {
    // The running program has the unpacked file mapped; its name is not needed any more.
    if (copy !== file) fs.rmSync(path.dirname(copy), { recursive: true, force: true })
  }
}

async function wakeUp(file: string, options: RestoreOptions): Promise<RestoredProcess> {
  const words = ['--report', String(REPORT)]
  if (options.eager) words.push('--eager')
  if (options.verify !== undefined) words.push(options.verify ? '--verify' : '--no-verify')
  if (options.files !== undefined) words.push('--files', options.files)
  if (options.pid !== undefined) words.push('--pid', options.pid)
  const { command, words: before, remark } = restorerFor(file)
  const child = spawn(command, [...before, ...words, file], {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    detached: options.detach,
  })
  const ended = endOf(child)
  const stop = passSignalsOn(child) // also while it is still myrestart: the program shall not come to life alone
  const report = await readReport(child.stdio[REPORT] as Readable)
  if (!report.running) throw failure(await ended.finally(stop), report.error, file)
  if (options.detach) child.unref()
  return {
    pid: report.pid ?? child.pid!,
    remarks: [...(remark === undefined ? [] : [remark]), ...report.remarks],
    wait: () => ended.finally(stop),
  }
}

/** The child's exit code, or 128 + the signal that ended it. */
function endOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code, signal) => resolve(code ?? 128 + os.constants.signals[signal!]))
  })
}

/** What is sent to this process goes to the child, until the returned function is called. Ctrl-C reaches both: what it means is the program's to say. */
function passSignalsOn(child: ChildProcess): () => void {
  const signals = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGINT'] as const
  const handlers = signals.map(signal => {
    const handler = () => signal !== 'SIGINT' && child.kill(signal)
    process.on(signal, handler)
    return () => process.off(signal, handler)
  })
  return () => {
    for (const off of handlers) off()
  }
}

interface Report {
  pid?: number
  running: boolean
  error?: string
  remarks: string[]
}

/** Reads until the program runs, or myrestart has given up: the restored program does not hold the pipe. */
async function readReport(stream: Readable): Promise<Report> {
  const report: Report = { running: false, remarks: [] }
  let text = ''
  for await (const chunk of stream) {
    text += String(chunk)
  }
  for (const line of text.split('\n')) {
    const [, word, rest] = /^(\S+) (.*)$/.exec(line) ?? []
    if (word === 'pid') report.pid = Number(rest)
    else if (word === 'remark') report.remarks.push(rest!)
    else if (word === 'running') report.running = true
    else if (word === 'error') report.error = rest!
  }
  return report
}

/** Reads all of an image as a restore would, and checks it. @throws the error that a restore would end with. */
export async function check(file: string): Promise<void> {
  const { command, words } = restorerFor(file)
  const child = spawn(command, [...words, '--report', String(REPORT), '--check', file], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
  })
  const ended = endOf(child)
  const report = await readReport(child.stdio[REPORT] as Readable)
  const code = await ended
  if (code !== 0) throw failure(code, report.error, file)
}

/** Exit codes of myrestart are those of imago. */
function failure(code: number, error: string | undefined, file: string): ImagoError {
  const message = error ?? `myrestart ended with ${code} before the program ran`
  const kinds: Record<number, typeof ImagoError> = {
    2: UsageError,
    3: UnreadableError,
    4: LossError,
    5: HostError,
  }
  return new (kinds[code] ?? ImagoError)(message, { file })
}
