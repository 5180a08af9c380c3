/** The engines that run guests, by preference. Each is loaded when it is used. */
import fs from 'node:fs'
import { UsageError } from '../../lib/errors.js'
import type { CpuFactory } from './cpu.js'
import type { EngineName } from './messages.js'

const table: ReadonlyArray<{ readonly name: EngineName; load(): Promise<CpuFactory> }> = [
  {
    name: 'kvm',
    load: async () => {
      const { KvmCpu } = await import('../kvm/cpu.js')
      return memory => new KvmCpu(memory)
    },
  },
  {
    name: 'unicorn',
    load: async () => {
      const { UnicornCpu } = await import('../unicorn/cpu.js')
      return memory => new UnicornCpu(memory)
    },
  },
]

/** @throws UsageError */
export function engineNamed(name: EngineName) {
  const engine = table.find(candidate => candidate.name === name)
  if (engine === undefined) throw new UsageError(`no engine is called '${name}'`)
  return engine
}

/** The engine that the user wants, or the best that this host has. */
export function chooseEngine(wanted: EngineName | undefined): EngineName {
  if (wanted !== undefined) return wanted
  try {
    fs.accessSync('/dev/kvm', fs.constants.R_OK | fs.constants.W_OK)
    return 'kvm'
  } catch {
    return 'unicorn'
  }
}
