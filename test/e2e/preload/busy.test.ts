/**
 * A program goes on as soon as it is copied when it shares nothing with its copy that changes then, and as soon as that is copied otherwise. What is
 * described later must be what was at the moment of the copy.
 */
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { compileKeep, Frozen } from './freezer.js'

test.for([
  'position',
  'memory',
  'pipe',
  'counter',
  'lock',
  'unforked',
])('what changes all the time is kept as it was when the program was frozen: %s', async part => {
  const folder = temporaryFolder()
  const program = new Frozen(compileKeep('busy', folder), [part], folder)
  onTestFinished(() => program.abandon())
  await program.until(() => program.has('ready'), 'readiness')
  for (let life = 0; life < rounds(20, 4); life++) {
    await sleep(Math.random() * 20)
    await program.freeze()
    await program.kill()
    await program.restart()
  }
  fs.writeFileSync(path.join(folder, 'go'), '')
  expect({ code: await program.end(), output: program.output() }).toEqual({ code: 0, output: 'ok\n' })
})
