/**
 * The program's own checkpointer and restorer on a real aarch64 kernel: frozen here, woken up in the aarch64 machine by
 * myrestart-aarch64, frozen and woken up once more there, to its end. No emulator of user programs and no criu has a hand in it.
 */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, onTestFinished, test } from 'vitest'
import { quote } from '../../../src/engines/arm64-machine/agent.js'
import { Arm64Machine } from '../../../src/engines/arm64-machine/machine.js'
import { engine } from '../../../src/engines/preload/engine.js'
import { nativePart } from '../../../src/engines/preload/native-parts.js'
import { retargetImage } from '../../../src/retarget/retarget-image.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { until } from '../preload/started.js'
import { build, canBeAsked, missingCompiler, movesEachTime } from './build.js'
import { travellingWords, type Workload, workloads } from './workloads.js'

const RESTORER = '/usr/bin/myrestart-aarch64'
const travellers = new Set(
  process.env.IMAGO_FULL === '1' ? workloads.map(({ name }) => name) : ['threads', 'files'],
)

function missing(): string | undefined {
  if (process.arch !== 'x64') return 'this test goes from x86-64 to aarch64'
  try {
    nativePart('myrestart-aarch64')
  } catch (error) {
    return (error as Error).message
  }
  return missingCompiler() ?? Arm64Machine.missing()
}
const reason = missing()
let machine: Arm64Machine

beforeAll(async () => {
  if (reason !== undefined) return
  machine = await Arm64Machine.boot()
  await machine.putFile(nativePart('myrestart-aarch64'), RESTORER)
})
afterAll(() => machine?.stop())

/**
 * Started here and frozen after `moment` ms; its image, retargeted, and its folder are in the machine then. False: it had ended
 * before that.
 */
async function departs(workload: Workload, folder: string, moment: number, times: number): Promise<boolean> {
  const at = (name: string) => path.join(folder, name)
  build(workload, folder)
  const words = travellingWords(workload, folder, times)
  const out = fs.openSync(at('out'), 'w')
  const program = spawn(at(`${workload.name}_x86-64`), words, { cwd: folder, stdio: ['ignore', out, out] })
  fs.closeSync(out)
  onTestFinished(() => void program.kill('SIGKILL'))
  const ended = new Promise(resolve => program.once('exit', resolve))
  await until(() => program.exitCode !== null || canBeAsked(program.pid!))
  await sleep(moment)
  try {
    await engine.checkpoint(program.pid!, { output: at('x86-64.img'), stop: true })
  } catch (error) {
    await Promise.race([ended, sleep(10_000)])
    if (program.exitCode === 0) return false
    throw error
  }
  await retargetImage({ source: at('x86-64.img'), target: at('aarch64.img'), to: 'aarch64' })
  fs.rmSync(at('x86-64.img'))
  await machine.putFolder(folder, folder)
  return true
}

/**
 * Woken up in the machine, frozen there after `moment` seconds, ended, woken up from that image, to its end. Eagerly: a tmpfs fills the
 * holes of a mapped file when they are read, and this machine has no disk.
 */
const onceMoreThere = (folder: string, moment: number) => `
  cd ${quote(folder)}
  ${RESTORER} --eager --report 3 aarch64.img < /dev/null > /dev/null 2> errors 3> report &
  for i in $(seq 1000); do pid=$(sed -n 's/^running //p' report); [ -n "$pid" ] && break; sleep 0.1; done
  sleep ${moment}; kill -12 $pid
  for i in $(seq 1000); do [ -e myckpt ] || [ ! -d /proc/$pid ] && break; sleep 0.1; done
  kill -9 $pid; wait
  [ -e myckpt ] || { cat errors >&2; echo 'had ended'; exit 0; }
  ${RESTORER} --eager --files truncate --pid new myckpt < /dev/null > /dev/null 2> errors || { cat errors >&2; exit 1; }`

for (const workload of workloads.filter(({ name }) => travellers.has(name)))
  test(`${workload.name} is woken up, frozen and woken up again on a real aarch64 kernel`, async ({
    skip,
  }) => {
    skip(reason !== undefined, reason)
    for (let round = 0; round < rounds(20, 1); round++)
      await movesEachTime(workload, 2, async times => {
        const folder = temporaryFolder()
        if (!(await departs(workload, folder, 10 + Math.random() * 20, times)))
          return { output: fs.readFileSync(path.join(folder, 'out'), 'utf8'), moves: 0 }
        const said = await machine.must(onceMoreThere(folder, 0.05 + Math.random() * 0.2), {
          timeout: 200_000,
        })
        const output = await machine.must(`cat ${quote(folder)}/out`)
        await machine.must(`rm -rf ${quote(folder)}`)
        return { output, moves: said.includes('had ended') ? 1 : 2 }
      })
  })
