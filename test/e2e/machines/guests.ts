/** What the machine tests boot and how their guests' words are checked. */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'vitest'
import { findProgram } from '../../../src/engines/qemu/emulator.js'
import { lineFor, resume } from '../../../src/engines/qemu/resume.js'
import { openStream } from '../../../src/formats/qemu/read-stream.js'
import { findPart, packageRoot } from '../../../src/lib/parts.js'

/** Bare-metal guest of 8 KB: timers, SSE, x87 and a chain of check values. */
export const timerGuest = path.join(packageRoot, 'test/data/qemu/timer.elf')

export function needsQemu({ skip }: TestContext): void {
  skip(findProgram() === undefined, 'qemu-system-x86_64 is not installed')
}

/** Kernel and initial RAM disk of the counting Linux; skips the test without them. */
export function linuxGuest(context: TestContext): { kernel: string; initrd: string } {
  needsQemu(context)
  const part = findPart('amd64-linux')
  context.skip(part === undefined, "the part 'amd64-linux' is not in the cache: npm run setup -- amd64-linux")
  return { kernel: path.join(part!, 'vmlinuz'), initrd: path.join(part!, 'initrd') }
}

/** Resumes the stream and returns what the guest prints, up to and with the line in which `enough` matches. */
export async function resumedWords(stream: string, enough: RegExp, timeout = 120_000): Promise<string> {
  const opened = openStream(stream)
  opened.source.close()
  let text = ''
  let found: () => void
  const done = new Promise<void>(resolve => {
    found = resolve
  })
  const emulator = await resume(stream, {
    line: lineFor(stream, opened),
    serial: bytes => {
      text += Buffer.from(bytes).toString('utf8')
      if (enough.test(text)) found()
    },
  })
  const timer = setTimeout(() => found(), timeout)
  try {
    await done
  } finally {
    clearTimeout(timer)
    await emulator.stop()
  }
  if (!enough.test(text)) throw new Error(`the guest said only ${JSON.stringify(text.slice(-2000))}`)
  return text
}

/** What the counting Linux prints at its nth turn, uptime left out (scripts/setup/amd64-linux/init). */
export function expectedLine(n: number): string {
  let check = 'start'
  for (let i = 1; i <= n; i++) check = createHash('md5').update(`${check} ${i}\n`).digest('hex')
  let sum = 0
  for (let i = 1; i <= 20_000; i++) sum += (i * n) / (i + n)
  return `LOOP ${n} check ${check} sum ${sum.toFixed(6)} uptime`
}

/** Checks every whole line of the counting Linux; returns their numbers and uptimes. */
export function checkedLines(text: string): { n: number; uptime: number }[] {
  return [...text.matchAll(/^(LOOP (\d+) .* uptime) (\d+\.\d+)\r?$/gm)].map(([, line, n, uptime]) => {
    if (line !== expectedLine(Number(n)))
      throw new Error(`wrong check values:\n  found    ${line}\n  expected ${expectedLine(Number(n))}`)
    return { n: Number(n), uptime: Number(uptime) }
  })
}

/** Lines `n=…` of the timer guest by n, without what depends on time. */
export function timerLines(text: string): Map<number, string> {
  return new Map(
    [...text.matchAll(/^n=(\d+) pit=\d+ lapic=\d+ (acc=\S+ x87=\S+ cs=\S+) tsc=\d+\r?$/gm)].map(
      ([, n, values]) => [Number(n), values!],
    ),
  )
}

export function readText(file: string): string {
  return fs.readFileSync(file, 'utf8')
}
