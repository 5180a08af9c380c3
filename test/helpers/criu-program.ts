import { checkProgram, findPrograms } from '../../src/engines/criu/program.js'

/** Why criu can freeze and wake nothing here; undefined: it can. */
export function missingCriu(): string | undefined {
  const [program] = findPrograms()
  if (program === undefined) return 'criu is not on this host (npm run setup -- criu-4.2)'
  if (process.getuid!() !== 0) return 'criu needs root'
  return checkProgram(program).works ? undefined : `criu ${program.version} does not work on this kernel`
}
