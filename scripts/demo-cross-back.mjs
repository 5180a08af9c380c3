/** The second half of the demo of processors: from an aarch64 machine with its criu to this host with its own. */
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { command, show, step } from './narration.mjs'
import { root } from './setup/say.mjs'

const load = name => import(path.join(root, 'dist', name))
const { quote } = await load('engines/arm64-machine/agent.js')
const { Arm64Machine } = await load('engines/arm64-machine/machine.js')
const { checkProgram, findPrograms } = await load('engines/criu/program.js')

/** Why it cannot be shown here, or undefined. */
export function engineReason() {
  const [criu] = findPrograms()
  if (process.getuid() !== 0) return 'criu wants root'
  if (criu === undefined || !checkProgram(criu).works) return 'no criu works on this kernel'
  return Arm64Machine.missing()
}

/** Begins the program in a machine, dumps it there, and ends it here; its output is FOLDER/out-back. */
export async function travelBack({ folder, place, rounds, imago, tail, check }) {
  step('The other way: an aarch64 Linux of its own boots (in QEMU), and the program begins there')
  const machine = await Arm64Machine.boot()
  try {
    show((await machine.must('uname -sm')).trimEnd())
    // Both sides have the program and its files at the same place, and criu gives it its old process id.
    await machine.must(`mkdir -p ${quote(folder)}; chmod 700 ${quote(folder)}`)
    await machine.putFile(place('is_aarch64'), place('is_aarch64'))
    await machine.must(`echo ${30_000 + Math.floor(Math.random() * 2000)} > /proc/sys/kernel/ns_last_pid`)
    command(`./is_aarch64 S ${rounds} > out-back &`)
    const pid = Number(
      await machine.must(
        `cd ${quote(folder)}; setsid ./is_aarch64 S ${rounds} < /dev/null > out-back 2>&1 & echo $!`,
      ),
    )
    const count = async () => Number(await machine.must(`wc -l < ${quote(place('out-back'))}`))
    while ((await count()) < 2 * rounds) {
      await machine.must(`[ -d /proc/${pid} ]`) // it has not ended before its time
      await sleep(200)
    }

    step('The criu of that machine dumps it, at a migration point')
    command(`touch /tmp/imago-park-${pid}; kill -12 ${pid}; criu dump -t ${pid} -D dump --shell-job`)
    await machine.must(`touch /tmp/imago-park-${pid}; kill -12 ${pid}`)
    await machine.must(
      `while grep -q 'State:.R' /proc/${pid}/status; do sleep 0.05; done; [ -d /proc/${pid} ]`,
    )
    await machine.must(`mkdir /dump; criu dump -t ${pid} -D /dump -o dump.log --shell-job`)
    await machine.getFolder('/dump', place('dump'))
    await machine.getFile(place('out-back'), place('out-back'))
    tail('out-back', rounds)
  } finally {
    await machine.stop()
  }

  step('The machine is off. Page by page, this is what is left …')
  show(imago('pages', 'dump').stdout, 12)

  step('… and what it becomes: an image of x86-64')
  show(imago('retarget', 'dump', '--to', 'x86-64', '-o', 'dump-x86').stdout)
  show(imago('pages', 'dump-x86').stdout, 12)

  step('The criu of this host wakes it up, and it finishes')
  imago('restore', 'dump-x86')
  tail('out-back', rounds)
  check('out-back', rounds)
}
