/**
 * Programs travel between this host and an aarch64 machine, frozen and woken by a real criu on both sides, and print what
 * they print at home. At the full count each of the seven makes each of the three journeys 20 times, all moves at random moments.
 */

import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Arm64Machine } from '../../../src/engines/arm64-machine/machine.js'
import { capabilitiesOfHost } from '../../../src/engines/live-process.js'
import type { IsaName } from '../../../src/model/process.js'
import { retargetImage } from '../../../src/retarget/retarget-image.js'
import { missingCriu } from '../../helpers/criu-program.js'
import { imago } from '../../helpers/imago.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { athome, build, missingCompiler, movesEachTime, randomStay } from './build.js'
import { Here, InMachine, type Place } from './places.js'
import { travellingWords, type Workload, workloads } from './workloads.js'

/** How many times as long as on this host a program takes in the machine; it is between 7 and 60. */
const SLOWER = 20
const here = new Here()
let machine: InMachine | undefined

const reason = missingCriu() ?? missingCompiler() ?? Arm64Machine.missing()

beforeAll(async () => {
  if (reason === undefined) machine = await InMachine.boot()
})
afterAll(() => machine?.stop())

/** Runs a workload that moves so many times, at random; returns its output, and how often it moved. */
async function travel(
  workload: Workload,
  from: Place,
  to: Place,
  wanted: number,
  times: number,
): Promise<{ output: string; moves: number }> {
  const { name } = workload
  const folder = temporaryFolder()
  build(workload, folder)
  const stays = Array.from({ length: wanted }, (_, i) =>
    randomStay(workload, wanted, i % 2 === Number(from === here) ? SLOWER : 1),
  )
  let [place, other] = [from, to]
  const pid = await place.start(folder, name, travellingWords(workload, folder, times))
  let moves = 0
  for (const stay of stays) {
    await sleep(stay)
    try {
      await place.freeze(pid, folder, name)
    } catch (error) {
      // It may have ended before it came to a migration point.
      if (!(await place.running(pid))) break
      throw error
    }
    await becomes(other.isa, folder, name)
    await other.wake(pid, folder, name)
    ;[place, other] = [other, place]
    moves++
  }
  await place.finish(pid, folder, name)
  return { output: fs.readFileSync(path.join(folder, 'out'), 'utf8'), moves }
}

/** Makes FOLDER/image an image of the other ISA. */
async function becomes(isa: IsaName, folder: string, name: string): Promise<void> {
  const [image, moved] = ['image', 'moved'].map(each => path.join(folder, each)) as [string, string]
  await retargetImage({
    source: image,
    target: moved,
    to: isa,
    program: path.join(folder, `${name}.imago.json`),
    capabilities: capabilitiesOfHost(isa),
  })
  fs.rmSync(image, { recursive: true })
  fs.renameSync(moved, image)
}

const seven = ['is', 'ep', 'cg', 'mg', 'ft', 'threads', 'files']

interface Journey {
  readonly route: string
  readonly from: IsaName
  readonly moves: number
  /** How many times as long a run it takes at least: each wake-up here is looked at while the program runs. */
  readonly least: number
  /** Who makes it in the ordinary run: to end in the emulated machine takes long. */
  readonly ordinary: readonly string[]
}

const journeys: readonly Journey[] = [
  { route: 'x86-64 → aarch64 → x86-64', from: 'x86-64', moves: 2, least: 1, ordinary: seven },
  {
    route: 'aarch64 → x86-64 → aarch64',
    from: 'aarch64',
    moves: 2,
    least: 1,
    ordinary: ['is', 'threads', 'files'],
  },
  { route: 'ten hops from x86-64', from: 'x86-64', moves: 10, least: 4, ordinary: ['threads'] },
]

for (const workload of workloads)
  for (const { route, from, moves, least, ordinary } of journeys)
    if ((process.env.IMAGO_FULL === '1' ? seven : ordinary).includes(workload.name))
      test(`${workload.name}: ${route} by criu prints the same`, async ({ skip }) => {
        skip(reason !== undefined, reason)
        const [first, second] = from === 'x86-64' ? [here, machine!] : [machine!, here]
        for (let round = 0; round < rounds(20, 1); round++)
          await movesEachTime(workload, moves, times => travel(workload, first, second, moves, times), least)
      })

interface Pages {
  readonly file: string
  readonly first: number
  readonly count: number
  readonly address: string
  readonly contents: readonly string[]
  readonly mapping: string
}

/** What `imago pages` says of an image of one process: by page, what it holds. */
function pagesOf(image: string): readonly Pages[] {
  const result = imago(['pages', image, '--json'])
  expect(result.code).toBe(0)
  const { processes } = JSON.parse(result.stdout) as { processes: { pages: Pages[] }[] }
  return processes[0]!.pages.filter(each => each.file.endsWith('.img'))
}

const holding = (pages: readonly Pages[], name: string) => pages.filter(each => each.contents.includes(name))
const bytesOf = ({ file, first, count }: Pages) =>
  fs.readFileSync(file).subarray(first * 4096, (first + count) * 4096)

test('IS dumped on aarch64 and rebuilt for x86-64: the pages of the manual notes, and VERIFICATION SUCCESSFUL', async ({
  skip,
}) => {
  skip(reason !== undefined, reason)
  const workload = workloads.find(each => each.name === 'is')!
  const folder = temporaryFolder()
  build(workload, folder)
  const images = temporaryFolder()
  const image = (name: string) => path.join(images, name)
  const freeze = async (place: Place, words: readonly string[]) => {
    const pid = await place.start(folder, 'is', words)
    await sleep(300)
    await place.freeze(pid, folder, 'is')
    fs.cpSync(path.join(folder, 'image'), image(place.isa), { recursive: true })
    return pid
  }
  await freeze(here, ['S', '10000']) // this one does not go on: long enough to be met
  for (const name of ['out', 'image']) fs.rmSync(path.join(folder, name), { recursive: true })
  const pid = await freeze(machine!, workload.travelling)
  await becomes('x86-64', folder, 'is')
  fs.cpSync(path.join(folder, 'image'), image('rebuilt'), { recursive: true })
  const [x86, arm, rebuilt] = ['x86-64', 'aarch64', 'rebuilt'].map(name => pagesOf(image(name)))

  for (const original of [x86!, arm!]) {
    // The one page of code that criu leaves behind, .data, then .bss; after the heap the vDSO's and the stack's.
    expect(original[0]).toMatchObject({ first: 0, count: 1, contents: ['.text'] })
    expect(original[1]).toMatchObject({ first: 1, count: 1, contents: ['.data'] })
    expect(original[2]).toMatchObject({ first: 2, contents: ['.bss'] })
    const kinds = original.map(each => each.mapping)
    expect(kinds).toContain('vdso')
    expect(kinds).toContain('stack')
  }
  // Keys, ranks and sorted keys lie at the same addresses on both.
  const large = (pages: readonly Pages[]) => holding(pages, '.bss').filter(each => each.count > 16)
  expect(large(x86!).map(each => each.address)).toEqual(large(arm!).map(each => each.address))
  // The rebuilt image: code and vDSO are of the machine that restores; .data and .bss are those of aarch64.
  expect(holding(rebuilt!, '.text')).toEqual([])
  expect(rebuilt!.map(each => each.mapping)).not.toContain('vdso')
  expect(rebuilt!.map(each => each.mapping)).toContain('stack')
  expect(holding(rebuilt!, '.data')).toHaveLength(1)
  expect(large(rebuilt!).length).toBeGreaterThan(0)
  for (const [i, kept] of large(rebuilt!).entries()) {
    const before = large(arm!)[i]!
    expect(kept).toMatchObject({ address: before.address, count: before.count })
    expect(bytesOf(kept).equals(bytesOf(before))).toBe(true)
  }

  await here.wake(pid, folder, 'is')
  await here.finish(pid)
  expect(fs.readFileSync(path.join(folder, 'out'), 'utf8')).toBe(athome(workload))
})
