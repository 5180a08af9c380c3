import { expect, test } from 'vitest'
import { Output } from '../../../src/cli/output.js'
import { command } from '../../../src/cli/verbs/completion.js'
import { spawnSync } from '../../helpers/bounded.js'

async function script(shell: string): Promise<string> {
  const lines: string[] = []
  const output = Object.assign(Object.create(Output.prototype) as Output, {
    line: (text: string) => lines.push(text),
  })
  await command.run({ args: { shell, rest: [] } as never, options: {}, output })
  return lines.join('\n')
}

/** What bash would offer for these words, the cursor behind the last. */
async function offered(...words: string[]): Promise<string[]> {
  const ask = `${await script('bash')}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _imago; printf '%s\\n' "\${COMPREPLY[@]}"`
  const { stdout, status } = spawnSync('bash', ['--norc', '-c', ask, 'bash', ...words], {
    encoding: 'utf8',
    cwd: '/',
  })
  expect(status).toBe(0)
  return stdout.split('\n').filter(Boolean)
}

test('bash is offered verbs, their options, and the words that may follow an option', async () => {
  expect(await offered('imago', 'checkp')).toEqual(['checkpoint'])
  expect(await offered('imago', 'vm', 'ser')).toEqual(['serve'])
  expect(await offered('imago', 'restore', '--fil')).toEqual(['--files'])
  expect(await offered('imago', 'restore', '--files', '')).toEqual(['keep', 'truncate', 'restore'])
  expect(await offered('imago', 'restore', 'image', '--pid', 'n')).toEqual(['new', 'namespace'])
  expect(await offered('imago', 'convert', 'image', '--to', 'c')).toEqual(['core', 'criu'])
  expect(await offered('imago', 'convert', 'image', '-t', 'gem')).toContain('gem5-se')
  expect(await offered('imago', 'convert', 'image', '--to', '=', 'q')).toEqual(['qemu']) // as bash breaks --to=q
  expect(await offered('imago', 'convert', 'image', '--to', '=')).toContain('core')
  expect(await offered('imago', 'convert', 'image', '-o', 'us')).toEqual(['usr'])
})

test('fish is offered the words that may follow an option', async () => {
  expect(await script('fish')).toContain("-l files -x -a 'keep truncate restore'")
  expect(await script('fish')).toContain("-s t -l to -x -a 'core ")
})
