/** The entry of the command line: parse, run one verb, turn errors into words and an exit code. */
import fs from 'node:fs'
import { CommanderError } from 'commander'
import { ExitCode, ImagoError } from '../lib/errors.js'
import { styled } from './output.js'
import { buildProgram } from './program.js'

// A reader such as `head` may leave early: that is no error of ours.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(ExitCode.done)
    throw error
  })

const version = (
  JSON.parse(fs.readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version

/** Runs one command line; returns its exit code. */
async function main(words: readonly string[]): Promise<number> {
  let code: number = ExitCode.done
  try {
    const program = await buildProgram(words, version, verbCode => {
      code = verbCode
    })
    await program.parseAsync([...words], { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError)
      return error.exitCode === 0 || error.code === 'commander.help'
        ? words.length === 0
          ? ExitCode.usage
          : ExitCode.done
        : ExitCode.usage
    if (error instanceof ImagoError) {
      process.stderr.write(`${styled('red', 'imago:', process.stderr)} ${error.describe()}\n`)
      return error.exitCode
    }
    process.stderr.write(
      `${styled('red', 'imago: this is a fault of imago itself:', process.stderr)} ${error instanceof Error ? error.stack : String(error)}\n`,
    )
    return ExitCode.failed
  }
  return code
}

process.exitCode = await main(process.argv.slice(2))
