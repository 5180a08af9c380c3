/**
 * restore.py runs as it stands against a stand-in for gem5's Python modules that records what is configured: gem5 itself
 * is not at hand. What the stand-in cannot show is whether gem5's objects still have these names.
 */

import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { restoreProcessScript, restoreScript } from '../../../src/formats/gem5/restore-script.js'
import { spawnSync } from '../../helpers/bounded.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const standIn: Readonly<Record<string, string>> = {
  'm5/__init__.py': `
import json, os, sys
MaxTick = 1 << 62
seen = {}
class util:
    addToPath = staticmethod(lambda p: seen.setdefault('path', p))
def instantiate(folder): seen['restored'] = folder
def curTick(): return 7
class End:
    def getCause(self): return 'the stand-in ends'
def simulate(ticks):
    from m5.objects import made
    seen['made'] = [[name, {k: v for k, v in words.items() if isinstance(v, (int, str))}] for name, words in made]
    seen['ticks'] = ticks
    print('SEEN ' + json.dumps(seen))
    return End()
def checkpoint(folder): print('CHECKPOINT ' + folder)
`,
  'm5/objects.py': `
import sys, types
made = []
class Thing:
    def __init__(self, *args, **words):
        made.append([type(self).__name__, words]); self.__dict__.update(words)
    def __getattr__(self, name):
        if name.startswith('__'): raise AttributeError(name)
        thing = Thing.__new__(Thing); self.__dict__[name] = thing; return thing
    def __iter__(self): return iter([self.__dict__.setdefault('only', Thing.__new__(Thing))])
    def __call__(self, *args, **words): return None
    def __setattr__(self, name, value):
        made.append(['set', {'name': name, 'value': value if isinstance(value, (int, str)) else type(value).__name__}])
        self.__dict__[name] = value
def kind(name): return type(name, (Thing,), {})
for name in '''X86AtomicSimpleCPU X86TimingSimpleCPU X86O3CPU X86FsWorkload VoltageDomain SrcClockDomain Bridge SimpleMemory
 DerivedClockDomain Root System AddrRange SystemXBar Process'''.split(): globals()[name] = kind(name)
class SEWorkload:
    init_compatible = staticmethod(lambda binary: binary)
__all__ = [n for n in globals() if n[0].isupper()]
`,
  'common/__init__.py': '',
  'common/FSConfig.py': `
from m5.objects import System
def makeX86System(mode, cpus, description, workload):
    system = System(mode=mode, mem=description.mem); system.__dict__['mem_ranges'] = [1, 2]; return system
`,
  'common/Benchmarks.py': `
class SysConfig:
    def __init__(self, mem): self.mem = mem
`,
}

function run(script: string, ...words: string[]) {
  const folder = temporaryFolder()
  for (const [name, text] of Object.entries(standIn)) {
    fs.mkdirSync(path.dirname(path.join(folder, 'gem5', name)), { recursive: true })
    fs.writeFileSync(path.join(folder, 'gem5', name), text)
  }
  const file = path.join(folder, 'restore.py')
  fs.writeFileSync(file, script)
  const { stdout, stderr, status } = spawnSync('python3', [file, ...words], {
    encoding: 'utf8',
    env: { ...process.env, PYTHONPATH: path.join(folder, 'gem5'), GEM5_ROOT: '/gem5' },
  })
  expect([status, stderr]).toEqual([0, ''])
  const seen = JSON.parse(/^SEEN (.*)$/m.exec(stdout)![1]!) as {
    made: [string, Record<string, string | number>][]
    restored: string
    ticks: number
  }
  return { ...seen, stdout, folder }
}

const hasPython = spawnSync('python3', ['--version']).status === 0
const configuration = {
  ramBytes: 3 * 2 ** 30,
  highRamBytes: 2 ** 30,
  cpuClock: 2.6e9,
  apicClock: 1e8,
  era: 'v24',
} as const

test('RAM, CPU clock, APIC divider and CPU type are the machine’s; the checkpoint is the folder of the script', ({
  skip,
}) => {
  skip(!hasPython, 'python3 is not installed')
  const { made, restored, folder, stdout } = run(
    restoreScript(configuration).content,
    ...['--cpu', 'o3', '--ticks', '5', '--checkpoint', '/next'],
  )
  const find = (name: string) => made.filter(([each]) => each === name).map(([, words]) => words)
  expect(find('System')[0]).toMatchObject({ mode: 'timing', mem: `${4 * 2 ** 30}B` })
  expect(find('SrcClockDomain').map(({ clock }) => clock)).toContain('2600000000Hz')
  expect(find('set')).toContainEqual({ name: 'clk_divider', value: 26 })
  expect(find('X86O3CPU')).toHaveLength(1)
  expect(find('SimpleMemory')).toHaveLength(2)
  expect(restored).toBe(folder)
  expect(stdout).toContain('CHECKPOINT /next')
  expect(JSON.stringify(made)).not.toMatch(/disk/i)
})

test('an APIC clock that no divider of the CPU clock gives is a clock of its own', ({ skip }) => {
  skip(!hasPython, 'python3 is not installed')
  const { made } = run(restoreScript({ ...configuration, apicClock: 1e9 }).content)
  const find = (name: string) => made.filter(([each]) => each === name).map(([, words]) => words)
  expect(find('SrcClockDomain').map(({ clock }) => clock)).toEqual(['1GHz', '2600000000Hz', '1000000000Hz'])
  expect(find('DerivedClockDomain')).toEqual([{ clk_divider: 1 }])
  expect(find('set')).toContainEqual({ name: 'clk_domain', value: 'DerivedClockDomain' })
  expect(find('set').some(({ name }) => name === 'clk_divider')).toBe(false)
})

test('the script of a process takes the binary and the RAM of its checkpoint', ({ skip }) => {
  skip(!hasPython, 'python3 is not installed')
  const { made, restored, folder } = run(
    restoreProcessScript({ ramBytes: 2 ** 26, binary: '/bin/prog "1"', clock: 1e9 }),
  )
  expect(made.some(([name]) => name === 'X86AtomicSimpleCPU')).toBe(true)
  expect(made.filter(([name]) => name === 'Process')).toHaveLength(1)
  expect(restored).toBe(folder)
})
