/** The programs that move between ISAs: where their source lies, how they are started, what they print when they are right. */
import path from 'node:path'
import { packageRoot } from '../../../src/lib/parts.js'

export interface Workload {
  readonly name: string
  readonly source: string
  /** A short run, for a look at whether it is right at all. `{folder}` stands for a folder of its own. */
  readonly quick: readonly string[]
  /** A run of a second or so on x86-64, to have moments to choose from. */
  readonly long: readonly string[]
  /** A run that gives moments to choose from and does not take an emulated machine minutes. */
  readonly travelling: readonly string[]
  /** Which word of `travelling` says how long it runs. */
  readonly lengthWord: number
  /** Its last line. */
  readonly verdict: string
}

const npb = (name: string, rounds: string, travelling: string): Workload => ({
  name,
  source: path.join(packageRoot, 'workloads/npb', `${name}.c`),
  quick: ['S'],
  long: ['S', rounds],
  travelling: ['S', travelling],
  lengthWord: 1,
  verdict: `${name.toUpperCase()} class S: VERIFICATION SUCCESSFUL`,
})

const own = (
  name: string,
  quick: readonly string[],
  long: readonly string[],
  travelling: readonly string[],
): Workload => ({
  name,
  source: path.join(packageRoot, 'workloads/cross', `${name}.c`),
  quick,
  long,
  travelling,
  lengthWord: name === 'structures' || name === 'threads' ? 0 : 1,
  verdict: `${name}: RIGHT`,
})

/** The words of a travelling run in `folder`, so many times as long. */
export function travellingWords(workload: Workload, folder: string, times = 1): string[] {
  return workload.travelling.map((word, i) =>
    word === '{folder}' ? folder : i === workload.lengthWord ? String(Number(word) * times) : word,
  )
}

export const workloads: readonly Workload[] = [
  npb('is', '600', '300'),
  npb('ep', '2', '1'),
  npb('cg', '15', '6'),
  npb('mg', '250', '60'),
  npb('ft', '7', '2'),
  own('fib-tree', ['20', '2000'], ['34', '400000'], ['31', '100000']),
  own('structures', ['10'], ['20000'], ['1500']),
  own('interpreter', ['2000', '2'], ['60000', '40'], ['60000', '10']),
  own('threads', ['20000', '100'], ['2000000', '500'], ['600000', '100']),
  own('files', ['{folder}', '200'], ['{folder}', '100000'], ['{folder}', '60000']),
]
