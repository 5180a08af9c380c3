/**
 * A guest at a terminal: runs it, answers Ctrl-C, SIGUSR2, `imago checkpoint`, the guest's own wish to be saved
 * and the time limit; says what happened on stderr. Shared by `vm run`, `vm restore` and `vm serve`.
 */
import fs from 'node:fs'
import path from 'node:path'
import type { Ended, Report } from '../../engines/microvm/messages.js'
import type { MicroVm } from '../../engines/microvm/micro-vm.js'
import { verifyMicroVmFile } from '../../formats/microvm/image-file.js'
import { ExitCode, ImagoError, InterruptedError, UnreadableError } from '../../lib/errors.js'
import type { Output } from '../output.js'
import { type Wish, Wishes } from './wishes.js'

export interface SessionOptions {
  /** Where a save goes. */
  readonly image: string
  readonly keepRunning: boolean
  readonly withFiles: boolean
  readonly timeoutMs: number | undefined
  /** Where `vm_image.sav` and `mem2.txt` go, too. */
  readonly seedFolder?: string | undefined
  /** Called after each save, before anything else happens. */
  afterSave?(): Promise<void>
}

/** Returns the exit code: the guest's own, 0 after a save that ends it. */
export async function runSession(vm: MicroVm, options: SessionOptions, output: Output): Promise<number> {
  const wishes = new Wishes(vm, options.timeoutMs)
  try {
    for (;;) {
      const { ended, report } = await vm.run()
      const code = exitCodeOf(ended, report, output)
      if (code !== undefined) return code
      let wish: Wish | undefined = ended.kind === 'save-requested' ? { kind: 'save' } : wishes.next()
      for (; wish !== undefined; wish = wishes.next()) {
        refuseToGoOn(wish)
        if (wish.kind === 'checkpoint') {
          if (await grantCheckpoint(vm, wish, options, output)) return ExitCode.done
        } else if ((await save(vm, options, output)) && !options.keepRunning) return ExitCode.done
      }
    }
  } finally {
    wishes.close()
  }
}

/** When the guest has ended, how; says it on stderr. Undefined: it only stands still. */
export function exitCodeOf(ended: Ended, report: Report, output: Output): number | undefined {
  if (ended.kind !== 'exit' && ended.kind !== 'fault') return undefined
  if (ended.kind === 'fault')
    for (const line of ended.report) process.stderr.write(`imago: the guest: ${line}\n`)
  else if (ended.signal !== undefined) output.note(`imago: the guest was killed by signal ${ended.signal}`)
  for (const [nr, count] of report.unknown)
    output.note(`imago: unknown system call ${nr} was made ${count} time${count === 1 ? '' : 's'}: ENOSYS`)
  return ended.code
}

/** @throws InterruptedError when the wish is that the guest ends. */
export function refuseToGoOn(wish: Wish): void {
  if (wish.kind === 'interrupt') throw new InterruptedError('interrupted: the guest is gone')
  if (wish.kind === 'timeout') throw new InterruptedError('the time is over: the guest is gone')
}

/** `imago checkpoint`: true when the guest is to end, its image being verified. What goes wrong is told to who asked. */
export async function grantCheckpoint(
  vm: MicroVm,
  { request, answer }: Wish & { kind: 'checkpoint' },
  options: Pick<SessionOptions, 'image' | 'withFiles'>,
  output: Output,
): Promise<boolean> {
  const image = request.output ?? options.image
  const began = performance.now()
  const finish = (pauseMs: number): boolean => {
    try {
      verify(image)
      output.note(`saved to ${path.relative('', image) || image}`)
      answer({ path: image, bytes: fs.statSync(image).blocks * 512, pauseMs })
      return true
    } catch (error) {
      answer(error as Error)
      return false
    }
  }
  try {
    await vm.save(image, request.withFiles || options.withFiles)
  } catch (error) {
    answer(error as Error)
    return false
  }
  const pause = performance.now() - began
  if (request.stop) return finish(pause)
  // The guest goes on while its image is read again.
  setImmediate(finish, pause)
  return false
}

/** False: it could not be saved, and goes on. */
async function save(vm: MicroVm, options: SessionOptions, output: Output): Promise<boolean> {
  try {
    await vm.save(options.image, options.withFiles)
    verify(options.image)
  } catch (error) {
    const text = error instanceof ImagoError ? error.describe() : (error as Error).message
    output.warn(`the guest could not be saved, and goes on: ${text}`)
    return false
  }
  if (options.seedFolder !== undefined) await seedFilesOf(options.image, options.seedFolder)
  await printBlock(options.seedFolder === undefined ? options.image : seedImageIn(options.seedFolder), output)
  output.note(`saved to ${path.relative('', options.image) || options.image}`)
  await options.afterSave?.()
  return true
}

/** @throws UnreadableError when what can be read from the disk is not what was written. */
function verify(image: string): void {
  const [problem] = verifyMicroVmFile(image)
  if (problem !== undefined)
    throw new UnreadableError('the image is not what was written', { file: image, found: problem })
}

async function seedFilesOf(image: string, folder: string): Promise<void> {
  const { writeSeedFiles } = await import('../../formats/seed-files.js')
  await writeSeedFiles(image, folder)
}

/** Where the ScratchVM's image is written. */
export const seedImageIn = (folder: string) => path.join(folder, 'vm_image.sav')

/** What the ScratchVM prints at each save and restore. */
export async function printBlock(image: string, output: Output): Promise<void> {
  if (output.quiet) return
  const { scratchBlock } = await import('../views/scratch-block.js')
  const { blockOf } = await import('../views/block-of.js')
  process.stderr.write(`${scratchBlock(await blockOf(image)).join('\n')}\n`)
}
