/** What `imago check` says of criu: each one that is on this host, its version, and whether it works on this kernel. */
import type { HostAnswer, HostCheck } from '../host-check.js'
import { explain } from './failures.js'
import { checkProgram, findPrograms } from './program.js'

export const checks: readonly HostCheck[] = [{ name: 'checkpoint and restore by criu', probe }]

function probe(): HostAnswer {
  const programs = findPrograms()
  if (programs.length === 0)
    return {
      works: false,
      detail: 'criu is not on this host',
      cure: 'npm run setup -- criu-4.2 (or apt-get install criu)',
    }
  const answers = programs.map(program => ({ program, ...checkProgram(program) }))
  const detail = answers
    .map(
      ({ program, works }) => `criu ${program.version} (${program.origin}) ${works ? 'works' : 'does not'}`,
    )
    .join('; ')
  // The engine takes the newest.
  if (answers[0]!.works) return { works: true, detail }
  const { message, details } = explain(`criu ${answers[0]!.program.version}`, answers[0]!.words)
  const other = answers.find(each => each.works)
  return {
    works: false,
    detail: `${detail}; ${message}`,
    ...(other
      ? { cure: `IMAGO_CRIU=${other.program.command.at(-1)}` }
      : details.hint && { cure: details.hint }),
  }
}
