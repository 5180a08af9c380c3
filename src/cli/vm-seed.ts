/** `vm send --seed` and `vm serve --seed` at a terminal: the ScratchVM's network migration, with its words. */
import fs from 'node:fs'
import path from 'node:path'
import { chooseEngine } from '../engines/microvm/engines.js'
import type { EngineName, Start } from '../engines/microvm/messages.js'
import { MicroVm } from '../engines/microvm/micro-vm.js'
import type { FilePolicy } from '../engines/microvm/restore.js'
import { writeFileAtomically, writeFully } from '../lib/atomic-file.js'
import { ExitCode } from '../lib/errors.js'
import { sendSeed, serveSeed } from '../migrate/seed-wire.js'
import type { Output } from './output.js'
import { printBlock, runSession, type SessionOptions, seedImageIn } from './vm-session.js'

export interface SeedDestination {
  readonly host: string
  readonly port: number
  readonly retries: number | undefined
}

/** How the guest is run, on either side. */
export interface SeedGuest {
  readonly engine: EngineName | undefined
  readonly readOnly: boolean
  readonly trace: boolean
}

export async function sendSeedImage(image: string, to: SeedDestination, output: Output): Promise<number> {
  const bytes = await sendSeed(image, to.host, to.port, {
    retries: to.retries,
    onRetry: () => output.note('connect failed, retry in 1 second...'),
    onConnect: () => output.note(`Connected to VMM in ${to.host}:${to.port}`),
  })
  output.note(`Sent ${bytes} bytes`)
  return ExitCode.done
}

/** Runs a program until it asks to be saved, and sends the image. The image stays here, too. */
export async function sendSeedRun(
  start: Omit<Start & { kind: 'program' }, 'kind' | 'seedLayout'>,
  guest: SeedGuest,
  session: Omit<SessionOptions, 'afterSave' | 'seedFolder' | 'keepRunning'>,
  to: SeedDestination,
  output: Output,
): Promise<number> {
  const vm = await MicroVm.start({
    ...guest,
    engine: chooseEngine(guest.engine),
    start: { kind: 'program', ...start, seedLayout: true },
  })
  const seedFolder = path.resolve('.')
  let saved = false
  let code: number
  try {
    const afterSave = async () => {
      saved = true
    }
    code = await runSession(vm, { ...session, keepRunning: false, seedFolder, afterSave }, output)
  } finally {
    await vm.release()
  }
  return saved ? sendSeedImage(seedImageIn(seedFolder), to, output) : code
}

/** Waits for one image, keeps it as received.sav, and lets its guest go on here. */
export async function serveSeedGuest(
  listen: { readonly host: string; readonly port: number },
  guest: SeedGuest & { readonly rootFolder: string; readonly files: FilePolicy },
  session: SessionOptions,
  store: string,
  output: Output,
): Promise<number> {
  const server = await serveSeed(listen.host, listen.port, reason =>
    output.note(`imago: a machine did not arrive: ${reason}`),
  )
  output.note(`Waiting for VM image on port ${server.port}...`)
  const bytes = await Promise.race([server.arrival, interrupted()])
  server.close()
  if (bytes === undefined) return ExitCode.interrupted
  output.note(`Received ${bytes.length} bytes`)
  fs.mkdirSync(store, { recursive: true, mode: 0o700 })
  const image = path.join(store, 'received.sav')
  writeFileAtomically(image, fd => writeFully(fd, bytes, 0))
  await printBlock(image, output)
  const vm = await MicroVm.start({
    engine: chooseEngine(guest.engine),
    readOnly: guest.readOnly,
    trace: guest.trace,
    start: { kind: 'image', path: image, rootFolder: guest.rootFolder, files: guest.files, ignoreCpu: false },
  })
  try {
    return await runSession(vm, session, output)
  } finally {
    await vm.release()
  }
}

function interrupted(): Promise<undefined> {
  return new Promise(resolve => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve(undefined))
  })
}
