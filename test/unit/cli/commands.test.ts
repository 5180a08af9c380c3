import { expect, test } from 'vitest'
import { commands } from '../../../src/cli/commands.js'
import { buildProgram } from '../../../src/cli/program.js'

test('every verb of the table loads, declares distinct options and ends no summary with a full stop', async () => {
  for (const entry of commands) {
    const { command } = await entry.load()
    const flags = (command.options ?? []).flatMap(option =>
      option.flags.split(/[ ,]+/).filter(word => word.startsWith('-')),
    )
    expect(new Set(flags).size, `${entry.name}: an option is declared twice`).toBe(flags.length)
    expect(
      flags,
      `${entry.name}: --json, --quiet and --help are declared for every verb already`,
    ).not.toContain('--json')
    expect(entry.summary, `${entry.name}: summary`).toMatch(/^[^A-Z].*[^.]$/)
    await buildProgram(entry.name.split(' '), '0', () => {})
  }
})

test('names of verbs are distinct', () => {
  expect(new Set(commands.map(entry => entry.name)).size).toBe(commands.length)
})
