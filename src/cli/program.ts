/** Builds commander's parser from the table of verbs: all names, and the whole declaration of the one that is called. */
import { Command as Parser, Option as ParserOption } from 'commander'
import { type Command, type CommandEntry, camelCase, type Invocation } from './command.js'
import { commands } from './commands.js'
import { Output } from './output.js'

const groupTitles: Record<CommandEntry['group'], string> = {
  process: 'Processes:',
  image: 'Images:',
  machine: 'Machines:',
  imago: 'About imago and this host:',
}

/** The entry that `words` (the command line after `imago`) name: one word, or two for a group. */
function entryFor(words: readonly string[]): CommandEntry | undefined {
  const [first, second] = words.filter(word => !word.startsWith('-'))
  return (
    commands.find(entry => entry.name === `${first} ${second}`) ??
    commands.find(entry => entry.name === first)
  )
}

/** `onExit` gets the exit code of the verb that ran. */
export async function buildProgram(
  words: readonly string[],
  version: string,
  onExit: (code: number) => void,
): Promise<Parser> {
  const program = new Parser('imago')
    .description(
      'Freeze running programs and machines into images, look inside them, translate them, wake them up in another body.',
    )
    .version(version, '-V, --version')
    .enablePositionalOptions()
    .showHelpAfterError("(add --help for this verb's options)")
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'imago: ')) }) // as all errors begin
    .exitOverride()
  const called = entryFor(words)
  const parsers = new Map<string, Parser>()
  for (const entry of commands) {
    const [first, second] = entry.name.split(' ') as [string, string?]
    let parent = program
    if (second !== undefined) {
      parent =
        parsers.get(first) ??
        program.command(first).description(groupSummary(first)).helpGroup(groupTitles[entry.group])
      parsers.set(first, parent)
    }
    const parser = parent
      .command(second ?? first)
      .summary(entry.summary)
      .description(entry.summary)
      .helpGroup(groupTitles[entry.group])
    parsers.set(entry.name, parser)
    if (entry === called) declare(parser, entry, (await entry.load()).command, onExit)
  }
  program.showHelpAfterError('(imago --help lists the verbs)') // after the verbs have taken over the other one
  return program
}

function groupSummary(first: string): string {
  return commands
    .filter(entry => entry.name.startsWith(`${first} `))
    .map(entry => entry.name.slice(first.length + 1))
    .join(', ')
}

function declare(
  parser: Parser,
  entry: CommandEntry,
  command: Command,
  onExit: (code: number) => void,
): void {
  parser.description(
    [`${entry.summary[0]!.toUpperCase()}${entry.summary.slice(1)}.`, command.description]
      .filter(Boolean)
      .join('\n\n'),
  )
  const declared = command.arguments ?? []
  for (const argument of declared) {
    const name = argument.variadic ? `${argument.name}...` : argument.name
    parser.argument(argument.optional ? `[${name}]` : `<${name}>`, argument.summary)
  }
  for (const option of command.options ?? []) {
    const made = new ParserOption(option.flags, option.summary)
    if (option.choices) made.choices([...option.choices])
    if (option.default !== undefined) made.default(option.default)
    if (option.repeatable)
      made.argParser((value: string, previous: string[] | undefined) => [...(previous ?? []), value])
    parser.addOption(made)
  }
  parser.option('--json', 'print the result as JSON').option('-q, --quiet', 'no remarks on stderr')
  if (command.passThrough) parser.passThroughOptions()
  if (command.rawWords) parser.allowUnknownOption()
  if (command.examples?.length)
    parser.addHelpText(
      'after',
      `\nExamples:\n${command.examples.map(([line, meaning]) => `  ${line}\n      ${meaning}`).join('\n')}`,
    )
  parser.action(async () => {
    const options = parser.opts() as Record<string, string | boolean | string[] | undefined>
    const args: Record<string, string | undefined> = {}
    let rest: readonly string[] = []
    for (const [i, argument] of declared.entries()) {
      const value = parser.processedArgs[i] as string | string[] | undefined
      if (argument.variadic) rest = (value as string[] | undefined) ?? []
      else args[camelCase(argument.name)] = value as string | undefined
    }
    const invocation: Invocation = {
      args: Object.assign(args, { rest }) as Invocation['args'],
      options,
      output: new Output({ json: options.json === true, quiet: options.quiet === true }),
    }
    onExit((await command.run(invocation)) ?? 0)
  })
}
