/** A real process, frozen by gdb's gcore, as a gem5 SE checkpoint: registers, page table and every page are compared. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { CheckpointText } from '../../../src/formats/gem5/checkpoint-text.js'
import { readGem5 } from '../../../src/formats/gem5/machine.js'
import { readImage } from '../../../src/formats/registry.js'
import { isZero } from '../../../src/lib/bytes.js'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const program = `
#include <unistd.h>
#include <stdio.h>
static unsigned long numbers[4096] = { 7 };
int main(void) {
  volatile double x = 1.5;
  for (unsigned long i = 0;; i++) { numbers[i % 4096] += i; x = x * 0.5 + 1; if (i == 3000000) { printf("ready\\n"); fflush(stdout); } }
}
`
const has = (tool: string) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0

/** Path of the core, and the areas of the process as the kernel names them. */
async function frozen(folder: string, flags: string[]): Promise<{ core: string; maps: string }> {
  const binary = path.join(folder, 'program')
  fs.writeFileSync(`${binary}.c`, program)
  const compiled = spawnSync('gcc', ['-O1', ...flags, '-o', binary, `${binary}.c`], { encoding: 'utf8' })
  expect(compiled.stderr).toBe('')
  const child = spawn(binary, [], { stdio: ['ignore', 'pipe', 'ignore'] })
  try {
    await once(child.stdout, 'data', { signal: AbortSignal.timeout(120_000) })
    const core = spawnSync('gcore', ['-o', path.join(folder, 'core'), String(child.pid)], {
      encoding: 'utf8',
    })
    expect(core.status, core.stderr).toBe(0)
    const maps = fs.readFileSync(`/proc/${child.pid}/maps`, 'latin1')
    return { core: path.join(folder, `core.${child.pid}`), maps }
  } finally {
    child.kill('SIGKILL')
  }
}

test('registers, page table and pages are those of the process; text comes from the executable', async ({
  skip,
}) => {
  skip(!has('gcore') || !has('gcc'), 'gcore or gcc is not installed')
  skip(process.arch !== 'x64', 'SE checkpoints are written for x86-64')
  const folder = temporaryFolder()
  const { core, maps } = await frozen(folder, ['-static'])
  const target = path.join(folder, 'se')
  const { code, stderr } = imago(['convert', core, '--to', 'gem5-se', '-o', target])
  expect([code, stderr]).toEqual([0, ''])
  const read = await readImage(core)
  if (read.kind !== 'process') throw new Error('a core is a process')
  const [source] = read.image.processes
  const { general } = source!.threads[0]!.registers
  const machine = await readGem5(target)
  for (const [name, value] of Object.entries(machine.cpus[0]!.general))
    expect([name, value]).toEqual([name, general.get(name)])
  expect(machine.cpus[0]!.rip).toBe(general.get('rip'))
  expect(machine.cpus[0]!.segments.fs.base).toBe(general.get('fs_base'))
  expect((machine.cpus[0]!.segments.cs.attributes >> 5) & 3).toBe(3)

  const text = CheckpointText.read(path.join(target, 'm5.cpt'))
  const count = Number(text.get('system.cpu.workload.ptable', 'size'))
  const table = new Map<bigint, bigint>()
  for (let i = 0; i < count; i++) {
    const entry = `system.cpu.workload.ptable.Entry${i}`
    table.set(BigInt(text.get(entry, 'vaddr')!), BigInt(text.get(entry, 'paddr')!))
  }
  for (const extent of source!.memory.extents)
    for (let at = extent.address; at < extent.address + BigInt(extent.length); at += 4096n) {
      if (at >= 0x7ffffffff000n) continue
      const bytes = source!.memory.tryRead(at, 4096)
      if (bytes === undefined || isZero(bytes)) continue
      const vvar = source!.mappings.find(({ start, end }) => start <= at && at < end)?.kind === 'vvar'
      if (!vvar) expect(machine.memory.read(table.get(at)!, 4096)).toEqual(bytes)
    }
  // The page of the current instruction is there, whether or not the core held it.
  expect(table.has(general.get('rip')! & ~0xfffn)).toBe(true)
  const areas = Number(text.get('system.cpu.workload.vmalist', 'size'))
  expect(text.get(`system.cpu.workload.vmalist.Vma${areas - 1}`, 'addrRangeEnd')).toBeDefined()
  expect(text.get('system.cpu.workload.fdarray', 'size')).toBe('1024')
  // The core does not say where the heap ends, the kernel did. New areas come between it and all others.
  const heapEnd = BigInt(`0x${/-(\S+) .*\[heap\]/.exec(maps)![1]}`)
  const limit = (key: string) => BigInt(text.get('system.cpu.workload', key)!)
  expect(limit('brkPoint')).toBe(heapEnd)
  const others = source!.mappings.map(({ start }) => start).filter(start => start >= heapEnd)
  for (const start of others) expect(limit('mmapEnd') <= start).toBe(true)
  expect(limit('mmapEnd')).toBeGreaterThan(heapEnd)
  expect(limit('mmapEnd')).toBeLessThanOrEqual(limit('stackBase') - limit('maxStackSize'))
})

test('sections and keys are those of a checkpoint that gem5 wrote for a process', async ({ skip }) => {
  skip(!has('gcore') || !has('gcc'), 'gcore or gcc is not installed')
  skip(process.arch !== 'x64', 'SE checkpoints are written for x86-64')
  const folder = temporaryFolder()
  const { core } = await frozen(folder, ['-static'])
  imago(['convert', core, '--to', 'gem5-se', '-o', path.join(folder, 'se')])
  const ours = CheckpointText.read(path.join(folder, 'se/m5.cpt'))
  const real = CheckpointText.read(path.resolve(import.meta.dirname, '../../data/machine/se.gem5/m5.cpt'))
  for (const name of ours.names().filter(each => each !== 'imago' && !/(Entry|Vma)\d+$/.test(each)))
    expect([name, ours.keys(name)]).toEqual([name, real.keys(name)])
  for (const kind of ['ptable.Entry0', 'fdarray.Entry0', 'fdarray.Entry7', 'vmalist.Vma0']) {
    const name = `system.cpu.workload.${kind}`
    expect([kind, ours.keys(name)]).toEqual([kind, real.keys(name)])
  }
})
