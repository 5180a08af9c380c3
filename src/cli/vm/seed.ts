/** `vm send --seed` and `vm serve --seed` at a terminal: the ScratchVM's network migration, with its words. */
import fs from 'node:fs'
import path from 'node:path'
import type { Start } from '../../engines/microvm/messages.js'
import { MicroVm } from '../../engines/microvm/micro-vm.js'
import { writeFileAtomically, writeFully } from '../../lib/atomic-file.js'
import { ExitCode } from '../../lib/errors.js'
import { sendSeed, serveSeed } from '../../migrate/seed-wire.js'
import { noteTransfer, type Output } from '../output.js'
import type { ListenOptions } from './arrival.js'
import type { GuestOptions } from './options.js'
import { printBlock, runSession, type SessionOptions, seedImageIn } from './session.js'
import { unlessInterrupted } from './wishes.js'

export interface SeedDestination {
  readonly host: string
  readonly port: number
  readonly retries: number | undefined
}

export async function sendSeedImage(image: string, to: SeedDestination, output: Output): Promise<number> {
  let began = 0
  const bytes = await sendSeed(image, to.host, to.port, {
    retries: to.retries,
    onRetry: () => output.note('connect failed, retry in 1 second...'),
    onConnect: () => {
      began = performance.now()
      output.note(`Connected to VMM in ${to.host}:${to.port}`)
    },
  })
  noteTransfer('Sent', { bytes, milliseconds: performance.now() - began }, output)
  return ExitCode.done
}

/** Runs a program until it asks to be saved, and sends the image. The image stays here, too. */
export async function sendSeedRun(
  start: Start & { kind: 'program' },
  guest: GuestOptions,
  session: SessionOptions,
  to: SeedDestination,
  output: Output,
): Promise<number> {
  const vm = await MicroVm.start({ ...guest, start: { ...start, seedLayout: true } })
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
  at: ListenOptions,
  wakeUp: (image: string) => Promise<MicroVm>,
  session: SessionOptions,
  store: string,
  output: Output,
): Promise<number> {
  const server = await serveSeed(at.host, at.port, reason =>
    output.note(`imago: a machine did not arrive: ${reason}`),
  )
  output.note(`Waiting for VM image on port ${server.port}...`)
  const arrival = await unlessInterrupted(server.arrival)
  server.close()
  if (arrival === undefined) return ExitCode.interrupted
  const { bytes, milliseconds } = arrival
  noteTransfer('Received', { bytes: bytes.length, milliseconds }, output)
  fs.mkdirSync(store, { recursive: true, mode: 0o700 })
  const image = path.join(store, 'received.sav')
  writeFileAtomically(image, fd => writeFully(fd, bytes, 0))
  await printBlock(image, output)
  const vm = await wakeUp(image)
  try {
    return await runSession(vm, session, output)
  } finally {
    await vm.release()
  }
}
