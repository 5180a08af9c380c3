import { UsageError } from '../../lib/errors.js'
import type { Command, CommandEntry } from '../command.js'
import { commands } from '../commands.js'

export const command: Command = {
  description: 'Without a verb: the overview, imago(1). The pages are made from the same table as --help.',
  arguments: [{ name: 'verb', summary: 'a verb, such as inspect or vm run', optional: true, variadic: true }],
  examples: [
    ['imago man inspect | man -l -', 'read a page'],
    ['imago man > imago.1', 'write the overview to a file'],
  ],
  async run({ args, output }) {
    const name = args.rest.join(' ')
    if (name === '') return output.line(overview())
    const entry = commands.find(candidate => candidate.name === name)
    if (entry === undefined)
      throw new UsageError(`no verb is called '${name}'`, { hint: "run 'imago --help' for the verbs" })
    output.line(page(entry, (await entry.load()).command))
  },
}

function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1')
}

function overview(): string {
  return [
    '.TH IMAGO 1 "" imago "User Commands"',
    '.SH NAME',
    'imago \\- freeze running programs and machines, look inside them, translate them, wake them up',
    '.SH SYNOPSIS',
    '.B imago\n.I verb\n[options]',
    '.SH VERBS',
    ...commands.map(entry => `.TP\n.B ${roff(entry.name)}\n${roff(entry.summary)}`),
    '.SH EXIT STATUS',
    '0 done, 1 failed, 2 usage, 3 unreadable input, 4 would lose something, 5 this host cannot, 6 the other side failed, 130 interrupted.',
  ].join('\n')
}

function page(entry: CommandEntry, command: Command): string {
  const words = (command.arguments ?? []).map(argument => {
    const name = `${argument.name}${argument.variadic ? ' ...' : ''}`
    return argument.optional ? `[\\fI${roff(name)}\\fR]` : `\\fI${roff(name)}\\fR`
  })
  return [
    `.TH IMAGO\\-${entry.name.replace(' ', '\\-').toUpperCase()} 1 "" imago "User Commands"`,
    '.SH NAME',
    `imago ${roff(entry.name)} \\- ${roff(entry.summary)}`,
    '.SH SYNOPSIS',
    `\\fBimago ${roff(entry.name)}\\fR [options] ${words.join(' ')}`,
    ...(command.description ? ['.SH DESCRIPTION', roff(command.description)] : []),
    ...(command.arguments?.length
      ? [
          '.SH ARGUMENTS',
          ...command.arguments.map(argument => `.TP\n.I ${roff(argument.name)}\n${roff(argument.summary)}`),
        ]
      : []),
    '.SH OPTIONS',
    ...(command.options ?? []).map(option => `.TP\n.B ${roff(option.flags)}\n${roff(option.summary)}`),
    '.TP\n.B \\-\\-json\nprint the result as JSON',
    ...(command.examples?.length
      ? [
          '.SH EXAMPLES',
          ...command.examples.map(([line, meaning]) => `.TP\n.B ${roff(line)}\n${roff(meaning)}`),
        ]
      : []),
  ].join('\n')
}
