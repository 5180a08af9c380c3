import fs from 'node:fs'
import path from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CheckpointText } from '../../../src/formats/gem5/checkpoint-text.js'
import { readSkeleton, skeletonOf } from '../../../src/formats/gem5/skeleton.js'
import { fromPalacios, makeSkeleton, toPalacios } from '../../../src/formats/gem5-palacios.js'
import { readPalacios } from '../../../src/formats/palacios/machine.js'
import { ImagoError } from '../../../src/lib/errors.js'
import { readPickle, type StringTree, writePickle } from '../../../src/lib/pickle.js'
import { spawnSync } from '../../helpers/bounded.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { mutate } from './mutate.js'
import { gem5Sample, palaciosMemory, palaciosSample } from './samples.js'

const python = (script: string, words: string[]) =>
  spawnSync('python3', ['-c', script, ...words], { encoding: 'utf8' })
const hasPython = python('', []).status === 0

describe('pickles of plain data', () => {
  test('what is written is read again', () => {
    const leaf = fc.stringMatching(/^[ -~]{0,300}$/)
    fc.assert(
      fc.property(fc.dictionary(leaf, fc.dictionary(leaf, leaf)), object => {
        const tree: StringTree = new Map(
          Object.entries(object).map(([k, v]) => [k, new Map(Object.entries(v))]),
        )
        expect(readPickle(writePickle(tree))).toEqual(tree)
      }),
    )
  })

  test.for([0, 1, 2, 3, 4])('protocol %i of Python itself is read', (protocol, { skip }) => {
    skip(!hasPython, 'python3 is not installed')
    const file = path.join(temporaryFolder(), 'p')
    const script =
      'import pickle,sys,collections; pickle.dump(collections.OrderedDict([("a",{"x":"1","n":[1,-2,True,None,2.5,10**20,("t",)]}),("b",{})]),open(sys.argv[1],"wb"),int(sys.argv[2]))'
    expect(python(script, [file, String(protocol)]).stderr).toBe('')
    const value = readPickle(fs.readFileSync(file)) as Map<string, Map<string, unknown>>
    expect([...value.keys()]).toEqual(['a', 'b'])
    expect(value.get('a')!.get('x')).toBe('1')
    expect(value.get('a')!.get('n')).toEqual([1n, -2n, true, null, 2.5, 10n ** 20n, ['t']])
  })

  test('a pickle that would run something is refused', () => {
    expect(() => readPickle(Buffer.from("cos\nsystem\n(S'true'\ntR."))).toThrow(/os\.system/)
  })

  test('a damaged pickle is refused or read, never a crash', () => {
    const whole = Buffer.from(skeletonOf(CheckpointText.read(path.join(gem5Sample('timer'), 'm5.cpt'))))
    for (let seed = 0; seed < rounds(10_000, 300); seed++)
      try {
        readPickle(mutate(whole, seed))
      } catch (error) {
        if (!(error instanceof ImagoError)) throw error
      }
  })
})

describe('the steps of the old migration tools', () => {
  test('a skeleton holds every key of the checkpoint, and Python reads it', ({ skip }) => {
    const folder = temporaryFolder()
    const file = path.join(folder, 'm5.p')
    makeSkeleton(path.join(gem5Sample('timer'), 'm5.cpt'), file)
    const real = CheckpointText.read(path.join(gem5Sample('timer'), 'm5.cpt'))
    const again = readSkeleton(file)
    for (const name of real.names())
      for (const key of real.keys(name)) expect(again.get(name, key)).toBe(real.get(name, key))
    skip(!hasPython, 'python3 is not installed')
    const script = 'import pickle,sys; print(pickle.load(open(sys.argv[1],"rb"))["system.cpu.xc.0"]["_pc"])'
    expect(python(script, [file]).stdout.trim()).toBe('1050497')
  })

  test('Palacios → gem5 → Palacios under the old file names', async () => {
    const folder = temporaryFolder()
    const at = (name: string) => path.join(folder, name)
    makeSkeleton(path.join(gem5Sample('busy'), 'm5.cpt'), at('m5.p'))
    const memory = palaciosMemory(folder)
    await fromPalacios({ skeleton: at('m5.p'), pair: palaciosSample, memory, output: at('p25out/m5.cpt') })
    fs.copyFileSync(memory, at('p25out/system.physmem.store0.pmem'))
    const { memory: unpacked } = await toPalacios({
      checkpoint: at('p25out/m5.cpt'),
      pair: palaciosSample,
      output: at('tmp'),
      memory: at('gemmem'),
    })
    expect(fs.readFileSync(unpacked!).equals(fs.readFileSync(memory))).toBe(true)
    const timing = { apicClock: 1e9, paging: undefined } as const
    const before = await readPalacios(palaciosSample, { timing, memory })
    const after = await readPalacios(at('tmp'), { timing, memory })
    expect(after.cpus[0]!.general).toEqual(before.cpus[0]!.general)
    expect(after.cpus[0]!.segments).toEqual(before.cpus[0]!.segments)
    expect(after.cpus[0]!).toMatchObject({
      halted: true,
      rip: before.cpus[0]!.rip,
      rflags: before.cpus[0]!.rflags,
    })
    expect(after.cpus[0]!.apic).toEqual(before.cpus[0]!.apic)
    expect(after.devices.ioApic).toEqual(before.devices.ioApic)
  })
})
