/** Checkpoint and restore by criu: whole process trees, sockets, whatever criu can. */
import { UsageError } from '../../lib/errors.js'
import type { CheckpointOptions, ProcessEngine, RestoreOptions } from '../engine.js'
import { liveProcess } from '../live-process.js'
import { checkpoint } from './checkpoint.js'
import { restore } from './restore.js'

export const engine: ProcessEngine = {
  name: 'criu',
  formats: ['criu'],
  canFreeze: pid => liveProcess(pid) !== undefined,
  async checkpoint(pid, options) {
    refuse(options, ['force', 'compress', 'includeFiles'])
    return checkpoint(pid, options)
  },
  async restore(image, options) {
    refuse(options, ['lazy'])
    return restore(image, options)
  },
}

/** What other engines offer and criu cannot do must not be ignored silently. */
function refuse(options: CheckpointOptions | RestoreOptions, names: readonly string[]): void {
  const given = names.find(name => (options as unknown as Record<string, unknown>)[name] === true)
  if (given !== undefined)
    throw new UsageError(`engine criu has no --${given === 'includeFiles' ? 'with-files' : given}`)
}
