import type { Emulator } from './emulator.js'

/** Runs a command of the human monitor in the first spelling that this version of QEMU knows. */
export async function monitor(emulator: Emulator, spellings: readonly string[]): Promise<void> {
  for (const line of spellings) {
    const answer = await emulator.qmp.execute<string>('human-monitor-command', { 'command-line': line })
    if (answer === '') return
  }
}

/** Whether the CPU waits in HLT. */
export async function sleeps(emulator: Emulator): Promise<boolean> {
  const registers = await emulator.qmp.execute<string>('human-monitor-command', {
    'command-line': 'info registers',
  })
  return /\bHLT=1\b/.test(registers)
}
