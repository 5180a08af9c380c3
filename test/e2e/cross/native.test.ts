/** The workloads are right before anything moves: with the host's own compiler they reach the published values. */

import path from 'node:path'
import { expect, test } from 'vitest'
import { spawnSync } from '../../helpers/bounded.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { workloads } from './workloads.js'

for (const workload of workloads)
  test(`${workload.name} built by gcc verifies itself`, () => {
    const folder = temporaryFolder()
    const program = path.join(folder, workload.name)
    const build = spawnSync(
      'gcc',
      // biome-ignore format: one line as one would type it
      ['-std=c11', '-O2', '-Wall', '-Wextra', '-Werror', '-ffp-contract=off', workload.source, '-o', program, '-lm', '-lpthread'],
      { encoding: 'utf8' },
    )
    expect(build.stderr).toBe('')
    const classes = workload.quick[0] === 'S' ? ['S', 'W'] : ['S']
    for (const problemClass of classes) {
      const words = workload.quick.map(word =>
        word === '{folder}' ? folder : word === 'S' ? problemClass : word,
      )
      const run = spawnSync(program, words, { encoding: 'utf8' })
      expect(run.stdout.trimEnd().split('\n').at(-1)).toBe(
        workload.verdict.replace('class S', `class ${problemClass}`),
      )
      expect(run.status).toBe(0)
    }
  })
