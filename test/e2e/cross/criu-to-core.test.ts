/** A program of imago cc that criu froze: its image becomes a core, and the checkpointer inside the program wakes it up. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { missingCriu } from '../../helpers/criu-program.js'
import { must } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { until } from '../preload/started.js'
import { athome, build, canBeAsked, missingCompiler } from './build.js'
import { travellingWords, workloads } from './workloads.js'

/** Long enough to be met on a busy host, too. */
const TIMES = 8

const reason =
  process.arch === 'x64' ? (missingCriu() ?? missingCompiler()) : 'the program is started on x86-64'

for (const name of ['is', 'threads'])
  test(`${name}, frozen by criu and converted to a core, is woken up by its own restorer`, async ({
    skip,
  }) => {
    skip(reason !== undefined, reason)
    const workload = workloads.find(each => each.name === name)!
    const folder = temporaryFolder()
    const at = (file: string) => path.join(folder, file)
    build(workload, folder)
    const out = fs.openSync(at('out'), 'w')
    const program = spawn(at(`${name}_x86-64`), travellingWords(workload, folder, TIMES), {
      cwd: folder,
      detached: true, // criu wants a session of its own
      stdio: ['ignore', out, out],
    })
    fs.closeSync(out)
    onTestFinished(() => void program.kill('SIGKILL'))
    const ended = once(program, 'exit')
    await until(() => canBeAsked(program.pid!))
    await sleep(20 + Math.random() * 50)
    must('checkpoint', String(program.pid), '--engine', 'criu', '--stop', '-o', at('dump'))
    await ended
    must('convert', at('dump'), '--to', 'core', '-o', at('core'))
    must('verify', at('core'))
    must('restore', at('core'), '--files', 'truncate', '--pid', 'new')
    expect(fs.readFileSync(at('out'), 'utf8') === athome(workload, TIMES)).toBe(true)
  })
