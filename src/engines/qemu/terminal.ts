/** Keeping the user's terminal as it was, whatever way QEMU ends: at its serial line it reads key by key, without echo. */
import { spawnSync } from 'node:child_process'

/** Remembers the settings of the terminal on stdin; the function returned brings them back. */
export function rememberTerminal(): () => void {
  if (!process.stdin.isTTY) return () => {}
  const settings = spawnSync('stty', ['-g'], { stdio: ['inherit', 'pipe', 'ignore'], encoding: 'utf8' })
  if (settings.status !== 0) return () => {}
  return () => {
    // In the background stty would be stopped instead of having its way.
    const limit = { timeout: 5_000, killSignal: 'SIGKILL' } as const
    spawnSync('stty', [settings.stdout.trim()], { stdio: ['inherit', 'ignore', 'ignore'], ...limit })
  }
}
