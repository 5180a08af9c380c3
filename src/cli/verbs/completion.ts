import { UsageError } from '../../lib/errors.js'
import type { Command } from '../command.js'
import { commands } from '../commands.js'

const shells = ['bash', 'zsh', 'fish']

export const command: Command = {
  description: 'The script is made from the same table as --help, so it never falls behind.',
  arguments: [{ name: 'shell', summary: shells.join(', ') }],
  examples: [
    ['source <(imago completion bash)', 'completion in this shell'],
    ['imago completion fish > ~/.config/fish/completions/imago.fish', 'completion in fish, for good'],
  ],
  async run({ args, output }) {
    const verbs = await Promise.all(
      commands.map(async entry => ({
        name: entry.name,
        summary: entry.summary,
        options: [
          ...((await entry.load()).command.options ?? []).map(({ flags, choices }) => ({
            names: flags.match(/(?<![^ ])--?[a-z0-9-]+/gi) ?? [],
            choices: choices ?? [],
          })),
          { names: ['--json'], choices: [] },
          { names: ['--help'], choices: [] },
        ],
      })),
    )
    switch (args.shell) {
      case 'bash':
        return output.line(bashScript(verbs))
      case 'zsh':
        return output.line(`autoload -U +X bashcompinit && bashcompinit\n${bashScript(verbs)}`)
      case 'fish':
        return output.line(fishScript(verbs))
      default:
        throw new UsageError(`no completion for the shell '${args.shell}'`, { expected: shells.join(', ') })
    }
  },
}

interface Verb {
  readonly name: string
  readonly summary: string
  readonly options: readonly WordOption[]
}

/** An option as the shell sees it: `-t`, `--to`, and what may follow it when only some words may. */
interface WordOption {
  readonly names: readonly string[]
  readonly choices: readonly string[]
}

function longNames(verb: Verb): string[] {
  return verb.options.flatMap(({ names }) => names.filter(name => name.startsWith('--')))
}

function firstWords(verbs: readonly Verb[]): string[] {
  return [...new Set(verbs.map(verb => verb.name.split(' ')[0]!))]
}

/** bash takes `--to=criu` for three words; the script makes two of them. */
function bashScript(verbs: readonly Verb[]): string {
  const groups = firstWords(verbs)
    .map(
      word =>
        [
          word,
          verbs.filter(verb => verb.name.startsWith(`${word} `)).map(verb => verb.name.split(' ')[1]),
        ] as const,
    )
    .filter(([, second]) => second.length > 0)
  const choices = verbs.flatMap(verb =>
    verb.options
      .filter(option => option.choices.length > 0)
      .map(option => [
        option.names.map(name => `'${verb.name} ${name}'`).join('|'),
        option.choices.join(' '),
      ]),
  )
  return `_imago() {
  local word=\${COMP_WORDS[COMP_CWORD]} verb=\${COMP_WORDS[1]} option=\${COMP_WORDS[COMP_CWORD-1]}
  if [ "$word" = = ]; then word=; elif [ "$option" = = ]; then option=\${COMP_WORDS[COMP_CWORD-2]}; fi
  if [ "$COMP_CWORD" = 1 ]; then COMPREPLY=($(compgen -W '${firstWords(verbs).join(' ')}' -- "$word")); return; fi
  case $verb in
${groups.map(([word, second]) => `    ${word}) if [ "$COMP_CWORD" = 2 ]; then COMPREPLY=($(compgen -W '${second.join(' ')}' -- "$word")); return; fi; verb="$verb \${COMP_WORDS[2]}";;`).join('\n')}
  esac
  case "$verb $option" in
${choices.map(([options, words]) => `    ${options}) COMPREPLY=($(compgen -W '${words}' -- "$word")); return;;`).join('\n')}
  esac
  case $word in -*)
    case $verb in
${verbs.map(verb => `      '${verb.name}') COMPREPLY=($(compgen -W '${longNames(verb).join(' ')}' -- "$word"));;`).join('\n')}
    esac;;
  *) COMPREPLY=($(compgen -f -- "$word"));;
  esac
}
complete -o filenames -F _imago imago`
}

function fishScript(verbs: readonly Verb[]): string {
  const quote = (text: string) => `'${text.replaceAll("'", "\\'")}'`
  return verbs
    .flatMap(verb => {
      const [first, second] = verb.name.split(' ') as [string, string?]
      const condition =
        second === undefined ? '__fish_use_subcommand' : `__fish_seen_subcommand_from ${first}`
      const seen = `__fish_seen_subcommand_from ${second ?? first}`
      return [
        ...(second === undefined ? [] : [`complete -c imago -n __fish_use_subcommand -a ${first}`]),
        `complete -c imago -n '${condition}' -a ${second ?? first} -d ${quote(verb.summary)}`,
        ...verb.options.map(({ names, choices }) => {
          const flags = names.map(name =>
            name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`,
          )
          const values = choices.length > 0 ? ` -x -a '${choices.join(' ')}'` : ''
          return `complete -c imago -n '${seen}' ${flags.join(' ')}${values}`
        }),
      ]
    })
    .join('\n')
}
