/**
 * Programs travel between this host and an aarch64 machine, frozen and woken by a real criu on both sides, and print what
 * they print at home.
 */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Arm64Machine } from '../../../src/engines/arm64-machine/machine.js'
import { requireProgram } from '../../../src/engines/criu/program.js'
import { capabilitiesOfHost } from '../../../src/engines/live-process.js'
import { retargetImage } from '../../../src/retarget/retarget-image.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { build, missingCompiler } from './build.js'
import { Here, InMachine, type Place } from './places.js'
import { type Workload, workloads } from './workloads.js'

/** An emulated machine is slow: the ordinary run takes three of the seven. */
const travellers = new Set(
  process.env.IMAGO_FULL === '1'
    ? ['is', 'cg', 'ep', 'mg', 'ft', 'threads', 'files']
    : ['is', 'threads', 'files'],
)
const here = new Here()
let machine: InMachine | undefined

function missing(): string | undefined {
  try {
    requireProgram()
  } catch (error) {
    return (error as Error).message
  }
  if (process.getuid!() !== 0) return 'criu needs root'
  return missingCompiler() ?? Arm64Machine.missing()
}
const reason = missing()

beforeAll(async () => {
  if (reason === undefined) machine = await InMachine.boot()
})
afterAll(() => machine?.stop())

/** Runs a workload that moves at each of the `moments` (milliseconds after it arrived); returns its output. */
async function travel(
  workload: Workload,
  from: Place,
  to: Place,
  moments: readonly number[],
): Promise<string> {
  const folder = temporaryFolder()
  build(workload, folder)
  const words = workload.travelling.map(word => (word === '{folder}' ? folder : word))
  let [place, other] = [from, to]
  const pid = await place.start(folder, workload.name, words)
  for (const [hop, moment] of moments.entries()) {
    await sleep(moment)
    if (!(await place.running(pid))) break
    const image = path.join(temporaryFolder(), `image-${hop}`)
    try {
      await place.freeze(pid, folder, workload.name, image)
    } catch (error) {
      // It may have ended before it came to a migration point.
      if (hop > 0 && !(await place.running(pid))) break
      throw error
    }
    const moved = `${image}.${other.isa}`
    const program = path.join(folder, `${workload.name}.imago.json`)
    await retargetImage({
      source: image,
      target: moved,
      to: other.isa,
      program,
      capabilities: capabilitiesOfHost(other.isa),
    })
    await other.wake(pid, folder, workload.name, moved)
    ;[place, other] = [other, place]
  }
  while (await place.running(pid)) await sleep(50)
  await place.fetch(folder, workload.name)
  return fs.readFileSync(path.join(folder, 'out'), 'utf8')
}

function athome(workload: Workload): string {
  const folder = temporaryFolder()
  build(workload, folder)
  const words = workload.travelling.map(word => (word === '{folder}' ? folder : word))
  return spawnSync(path.join(folder, `${workload.name}_x86-64`), words, {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  }).stdout
}

for (const workload of workloads.filter(each => travellers.has(each.name))) {
  test(`${workload.name}: x86-64 → aarch64 → x86-64 and the reverse by criu prints the same`, async ({
    skip,
  }) => {
    skip(reason !== undefined, reason)
    const expected = athome(workload)
    expect(expected.trimEnd().split('\n').at(-1)).toBe(workload.verdict)
    for (let round = 0; round < rounds(20, 1); round++) {
      const moment = () => 10 + Math.random() * 60
      expect(await travel(workload, here, machine!, [moment(), moment()])).toBe(expected)
      expect(await travel(workload, machine!, here, [moment() * 4, moment()])).toBe(expected)
    }
  })
}
