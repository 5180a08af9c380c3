/**
 * A guest at a terminal: runs it, answers Ctrl-C, SIGUSR2, the guest's own wish to be saved
 * and the time limit; says what happened on stderr. Shared by `vm run` and `vm restore`.
 */
import path from 'node:path'
import type { MicroVm } from '../engines/microvm/micro-vm.js'
import { ExitCode, InterruptedError } from '../lib/errors.js'
import type { Output } from './output.js'

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

type Wish = 'save' | 'interrupt' | 'timeout'

/** Returns the exit code: the guest's own, 0 after a save that ends it. */
export async function runSession(vm: MicroVm, options: SessionOptions, output: Output): Promise<number> {
  const wishes: Wish[] = []
  const wish = (what: Wish) => () => {
    wishes.push(what)
    void vm.stop()
  }
  const onSave = wish('save')
  const onInterrupt = wish('interrupt')
  process.on('SIGUSR2', onSave)
  process.on('SIGINT', onInterrupt)
  process.on('SIGTERM', onInterrupt)
  const timer = options.timeoutMs === undefined ? undefined : setTimeout(wish('timeout'), options.timeoutMs)
  try {
    for (;;) {
      const { ended, report } = await vm.run()
      if (ended.kind === 'exit' || ended.kind === 'fault') {
        if (ended.kind === 'fault')
          for (const line of ended.report) process.stderr.write(`imago: the guest: ${line}\n`)
        else if (ended.signal !== undefined)
          output.note(`imago: the guest was killed by signal ${ended.signal}`)
        for (const [nr, count] of report.unknown)
          output.note(
            `imago: unknown system call ${nr} was made ${count} time${count === 1 ? '' : 's'}: ENOSYS`,
          )
        return ended.code
      }
      const asked = ended.kind === 'save-requested' ? 'save' : wishes.shift()
      if (asked === 'interrupt') throw new InterruptedError('interrupted: the guest is gone')
      if (asked === 'timeout') throw new InterruptedError('the time is over: the guest is gone')
      if (asked !== 'save') continue
      await save(vm, options, output)
      if (!options.keepRunning) return ExitCode.done
    }
  } finally {
    clearTimeout(timer)
    process.off('SIGUSR2', onSave)
    process.off('SIGINT', onInterrupt)
    process.off('SIGTERM', onInterrupt)
  }
}

async function save(vm: MicroVm, options: SessionOptions, output: Output): Promise<void> {
  await vm.save(options.image, options.withFiles)
  if (options.seedFolder !== undefined) await vm.saveSeedImage(options.seedFolder)
  await printBlock(options.seedFolder === undefined ? options.image : seedImageIn(options.seedFolder), output)
  output.note(`saved to ${path.relative('', options.image) || options.image}`)
  await options.afterSave?.()
}

/** Where the ScratchVM's image is written. */
export const seedImageIn = (folder: string) => path.join(folder, 'vm_image.sav')

/** What the ScratchVM prints at each save and restore. */
export async function printBlock(image: string, output: Output): Promise<void> {
  if (output.quiet) return
  const { scratchBlock } = await import('./views/scratch-block.js')
  const { blockOf } = await import('./views/block-of.js')
  process.stderr.write(`${scratchBlock(await blockOf(image)).join('\n')}\n`)
}
