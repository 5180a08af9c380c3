/** The options that the verbs of `vm` share, and what their values mean. */
import path from 'node:path'
import type { EngineName, Start } from '../../engines/microvm/messages.js'
import type { FilePolicy } from '../../engines/microvm/restore-files.js'
import { LARGEST_MEMORY, SMALLEST_MEMORY } from '../../formats/microvm/guest-layout.js'
import { UsageError } from '../../lib/errors.js'
import { parseSize } from '../../lib/quantities.js'
import { type Invocation, type Option, timeOf } from '../command.js'
import { bytesText, type Output } from '../output.js'
import type { SessionOptions } from './session.js'

type Given = Invocation['options']

/** How a guest is run and saved. */
export const sessionOptions: readonly Option[] = [
  { flags: '-o, --output <image>', summary: 'image that a save writes (default: PROGRAM.vm)' },
  { flags: '--keep-running', summary: 'go on after a save instead of ending' },
  { flags: '--with-files', summary: 'store the content of open files in the image, too' },
  { flags: '--root <folder>', summary: 'folder that the guest sees as / (default: the current one)' },
  { flags: '--read-only', summary: 'the guest may not change anything below its root' },
  { flags: '--trace', summary: 'print each system call to stderr' },
  { flags: '--timeout <time>', summary: 'end the guest after this time: 500ms, 10s, 5m' },
  {
    flags: '--engine <name>',
    summary: 'what runs the guest (default: kvm where there is one)',
    choices: ['kvm', 'unicorn'],
  },
]

/** How a program is started in a guest. */
export const programOptions: readonly Option[] = [
  { flags: '--memory <size>', summary: 'memory of the guest', default: '64M' },
  {
    flags: '--env <name=value>',
    summary: 'a variable of its environment; may be repeated',
    repeatable: true,
  },
]

/** How a guest wakes up. */
export const imageOptions: readonly Option[] = [
  {
    flags: '--files <policy>',
    summary: 'what to do when an open file is not as it was',
    choices: ['refuse', 'reopen', 'restore-content'],
    default: 'refuse',
  },
  { flags: '--ignore-cpu', summary: 'go on though this CPU lacks features the program was started with' },
]

export const keyOption: Option = {
  flags: '--key <file>',
  summary: "shared key (default: the user's own, ~/.config/imago/key)",
}

/** How a guest is run, of the values of `sessionOptions`. */
export interface GuestOptions {
  readonly engine: EngineName
  readonly readOnly: boolean
  readonly trace: boolean
}

/** Says so when the guest will be slow. */
export async function guestFrom(options: Given, output: Output): Promise<GuestOptions> {
  const { chooseEngine } = await import('../../engines/microvm/engines.js')
  const engine = chooseEngine(options.engine as EngineName | undefined)
  if (engine === 'unicorn' && options.engine === undefined)
    output.note('imago: without KVM: the guest is emulated, and slow')
  return { engine, readOnly: options.readOnly === true, trace: options.trace === true }
}

/** How it is saved. @throws UsageError */
export function sessionFrom(options: Given, image: string): SessionOptions {
  return {
    image: path.resolve((options.output as string | undefined) ?? image),
    keepRunning: options.keepRunning === true,
    withFiles: options.withFiles === true,
    timeoutMs: timeOf(options.timeout),
  }
}

/** @throws UsageError */
export function programFrom(
  options: Given,
  program: string,
  words: readonly string[],
): Start & { kind: 'program' } {
  return {
    kind: 'program',
    file: program,
    argv: [program, ...words],
    environment: environmentOf(options.env as readonly string[] | undefined),
    memorySize: memorySize(options.memory as string),
    rootFolder: path.resolve((options.root as string | undefined) ?? '.'),
  }
}

/** `root`: where no --root is given; undefined is the one of the image. */
export function imageFrom(options: Given, image: string, root?: string): Start & { kind: 'image' } {
  const rootFolder = (options.root as string | undefined) ?? root
  return {
    kind: 'image',
    path: image,
    rootFolder: rootFolder === undefined ? undefined : path.resolve(rootFolder),
    files: options.files as FilePolicy,
    ignoreCpu: options.ignoreCpu === true,
  }
}

/** `64M`, `2G` → bytes, a multiple of 2 MiB. @throws UsageError */
function memorySize(text: string): number {
  const rounded = Math.ceil(parseSize(text) / (2 << 20)) * (2 << 20)
  if (rounded < SMALLEST_MEMORY || rounded > LARGEST_MEMORY)
    throw new UsageError(`'${text}' is no size for a guest`, {
      expected: `${bytesText(SMALLEST_MEMORY)} to ${bytesText(LARGEST_MEMORY)}, such as 64M`,
    })
  return rounded
}

/** The guest's environment: little, and nothing of the user's unless given. @throws UsageError */
function environmentOf(given: readonly string[] = []): string[] {
  for (const item of given)
    if (!/^[^=]+=/.test(item)) throw new UsageError(`'${item}' is no variable`, { expected: 'NAME=VALUE' })
  return ['PATH=/bin:/usr/bin', 'HOME=/', `TERM=${process.env.TERM ?? 'dumb'}`, ...given]
}

/** @throws UsageError */
export function portOf(text: string): number {
  const port = Number(text)
  if (!/^\d+$/.test(text) || port > 65535)
    throw new UsageError(`'${text}' is no port`, { expected: '0 to 65535' })
  return port
}

/** `host:4040`, `[::1]:4040`. @throws UsageError */
export function hostAndPort(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text)
  if (match === null)
    throw new UsageError(`'${text}' is no address`, { expected: 'HOST:PORT, such as 127.0.0.1:4040' })
  return { host: (match[1] ?? match[2])!, port: portOf(match[3]!) }
}
