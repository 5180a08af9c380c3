/**
 * What a verb is. Dispatch, `--help`, shell completion and man pages all read these declarations;
 * the work is imported inside `run`, so that a verb costs its own imports only.
 */
import { parseTime } from '../lib/quantities.js'
import type { Output } from './output.js'

export interface Argument {
  /** As shown in the usage line: `image`, `prog`. */
  readonly name: string
  readonly summary: string
  readonly optional?: boolean
  /** Takes all remaining words. */
  readonly variadic?: boolean
}

export interface Option {
  /** commander's form: `-o, --output <file>`, `--strict`, `--retry <n>`. */
  readonly flags: string
  readonly summary: string
  readonly choices?: readonly string[]
  readonly default?: string | boolean
  /** May be given several times; the value is then an array of strings. */
  readonly repeatable?: boolean
}

/** Words after the verb, as declared: an argument's name in camelCase → its value(s); an option's likewise. */
export interface Invocation {
  readonly args: Readonly<Record<string, string | undefined>> & { readonly rest: readonly string[] }
  readonly options: Readonly<Record<string, string | boolean | readonly string[] | undefined>>
  readonly output: Output
}

export interface Command {
  /** Paragraphs below the summary in help and man page. */
  readonly description?: string
  /** The last may be variadic: its words come as `args.rest`. */
  readonly arguments?: readonly Argument[]
  readonly options?: readonly Option[]
  /** Command line and what it does. */
  readonly examples?: ReadonlyArray<readonly [line: string, meaning: string]>
  /** Words after the first argument belong to a program and are not parsed (`run`, `vm run`). */
  readonly passThrough?: boolean
  /** All words after the verb but --help are the verb's own business (`cc` takes those of a C compiler). They come as `args.rest`. */
  readonly rawWords?: boolean
  /** Returns the exit code; nothing means 0. */
  run(invocation: Invocation): Promise<number | undefined> | Promise<void>
}

/** A line of the table of verbs: enough for the overview, without loading the verb. */
export interface CommandEntry {
  /** One word, or two for a group: `vm run`. */
  readonly name: string
  readonly summary: string
  readonly group: 'process' | 'image' | 'machine' | 'imago'
  load(): Promise<{ readonly command: Command }>
}

/** The value of an option that is a length of time, in milliseconds. @throws UsageError */
export function timeOf(value: Invocation['options'][string]): number | undefined {
  return value === undefined ? undefined : parseTime(String(value))
}

/** `with-files` → `withFiles`, as commander names the values of options. */
export function camelCase(name: string): string {
  return name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}
