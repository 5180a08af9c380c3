/** What a guest's CPU offered: from a command line, from the kernel's own words, from gem5's CPUID. */
import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { convert } from '../../../src/formats/convert.js'
import { gem5Features } from '../../../src/formats/gem5/cpu-features.js'
import { writeGem5 } from '../../../src/formats/gem5/machine.js'
import { offeredFeatures, widenedLine } from '../../../src/formats/qemu/cpu-line.js'
import { cpuModels } from '../../../src/formats/qemu/cpu-models.js'
import { readQemu } from '../../../src/formats/qemu/machine.js'
import { featuresIn, kernelFeatures, kernelSlide } from '../../../src/isa/linux-kernel.js'
import { baseFeatures, featureRegisters } from '../../../src/isa/x86-cpu-features.js'
import { openKernelSymbols } from '../../../src/lib/kernel-symbols.js'
import { initialCpu, type MachineImage, noDevices } from '../../../src/model/machine.js'
import { Memory } from '../../../src/model/memory.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { qemuSample } from './samples.js'

/** A `struct cpuinfo_x86` as kernels lay it out: `before` bytes, the levels, the words, the vendor. */
function cpuinfo(words: readonly number[], { before = 28, padding = 0, vendor = 'AuthenticAMD' } = {}) {
  const bytes = Buffer.alloc(512)
  let at = before
  bytes.writeUInt32LE(0x8000000a, at)
  bytes.writeUInt32LE(0xd, at + 4)
  at += 8 + padding
  for (const [i, word] of words.entries()) bytes.writeUInt32LE(word >>> 0, at + 4 * i)
  bytes.write(vendor, at + 4 * words.length, 'latin1')
  bytes.write('A model of no name', at + 4 * words.length + 16, 'latin1')
  return bytes
}
/** The words of a qemu64 with SSE4.1, by 21 words of Linux 6.1. */
const words = (changes: Record<number, number> = {}) =>
  Array.from(
    { length: 21 },
    (_, i) =>
      changes[i] ?? ({ 0: 0x078bfbfd, 1: 0x20100800 | 0x800, 4: 0x80001 } as Record<number, number>)[i] ?? 0,
  )

describe('the kernel’s own feature words', () => {
  test.each([
    { before: 28, padding: 0 },
    { before: 8, padding: 4 },
  ])('are found whatever stands before them: %j', layout => {
    const features = featuresIn(cpuinfo(words(), layout))!
    expect([...features]).toEqual(expect.arrayContaining(['sse2', 'lm', 'pni', 'sse4.1']))
    expect(features.has('avx')).toBe(false)
  })

  test('are told by the bits of each word: leaf 7 and the extended leaf', () => {
    const features = featuresIn(
      cpuinfo(words({ 6: 1, 9: 1 << 5, 16: 1 << 3, 18: 1 << 4 }), { vendor: 'GenuineIntel' }),
    )!
    expect([...features]).toEqual(expect.arrayContaining(['lahf-lm', 'avx2', 'pku', 'fsrm']))
  })

  test('are not taken from memory that only looks like it', () => {
    expect(featuresIn(Buffer.alloc(512))).toBeUndefined()
    expect(featuresIn(Buffer.alloc(512, 0xff))).toBeUndefined()
    expect(featuresIn(cpuinfo(words({ 1: 0 })))).toBeUndefined()
  })

  test('follow a kernel that KASLR has moved, and are refused where the symbols are of another kernel', async () => {
    const folder = temporaryFolder()
    const map = path.join(folder, 'System.map')
    fs.writeFileSync(
      map,
      'ffffffff81000000 T _text\nffffffff81000080 T entry_SYSCALL_64\nffffffff82000000 D boot_cpu_data\nffffffff83000000 B _end\n',
    )
    const symbols = openKernelSymbols(map)
    const cpu = initialCpu()
    cpu.msr.lstar = 0xffffffff_81000080n + 0x1e00000n
    expect(kernelSlide(cpu, symbols)).toBe(0x1e00000n)
    // Without paging the lower half of the address is the physical one.
    const image: MachineImage = {
      isa: 'x86-64',
      cpus: [cpu],
      devices: noDevices(),
      notUnderstood: [],
      origin: { format: 'gem5', path: '', notes: {} },
      memory: Memory.from([
        {
          address: 0x82000000n + 0x1e00000n,
          length: 512,
          content: { kind: 'bytes', bytes: cpuinfo(words()) },
        },
      ]),
    }
    expect(kernelFeatures(image, symbols)?.has('sse4.1')).toBe(true)
    cpu.msr.lstar += 0x1000n
    expect(kernelSlide(cpu, symbols)).toBe(0n)
    expect(kernelFeatures(image, symbols)).toBeUndefined()

    const stream = qemuSample('timer', folder)
    await expect(
      convert(stream, { to: 'gem5', output: path.join(folder, 'out'), vmlinux: map }),
    ).rejects.toThrow(/feature words/)
    expect(fs.existsSync(path.join(folder, 'out'))).toBe(false)
  })
})

describe('symbols of a kernel', () => {
  test('name the function that holds an address, and nothing behind the last', () => {
    const file = path.join(temporaryFolder(), 'kallsyms')
    fs.writeFileSync(
      file,
      'ffffffff81000000 T _text\nffffffff81000100 t default_idle\nffffffff81000140 d data\nffffffff81000200 T next\n',
    )
    const symbols = openKernelSymbols(file)
    expect(symbols.at(0xffffffff81000111n)).toEqual({ name: 'default_idle', offset: 0x11 })
    expect(symbols.at(0xffffffff81000180n)).toEqual({ name: 'default_idle', offset: 0x80 })
    expect(symbols.at(0xffffffff81000200n)).toBeUndefined()
    expect(symbols.at(0x1000n)).toBeUndefined()
  })

  test('a file that holds none is refused', () => {
    const file = path.join(temporaryFolder(), 'text')
    fs.writeFileSync(file, 'The real System.map is in the linux-image-dbg package\n')
    expect(() => openKernelSymbols(file)).toThrow(/no list of kernel symbols/)
  })
})

describe('features by name', () => {
  test('every register has a name a bit at most once, and all have different names', () => {
    const names = Object.values(featureRegisters)
      .flat()
      .filter(name => name !== '-')
    expect(new Set(names).size).toBe(names.length)
    for (const list of Object.values(featureRegisters)) expect(list.length).toBeLessThanOrEqual(32)
  })

  test('gem5 offers the base of every 64-bit CPU, and what the facts list beyond it', () => {
    for (const era of ['v24', '2011'] as const)
      expect([...baseFeatures].filter(name => !gem5Features(era).has(name))).toEqual([])
    expect([...gem5Features('v24')]).toEqual(
      expect.arrayContaining([
        'pni',
        'monitor',
        'ssse3',
        'clflushopt',
        'clwb',
        'mmxext',
        'rdtscp',
        'lahf-lm',
        '3dnow',
      ]),
    )
    for (const name of ['cx16', 'sse4.1', 'popcnt', 'xsave', 'avx', 'x2apic'])
      expect(gem5Features('v24').has(name)).toBe(false)
  })

  test('QEMU models name only features that there are', () => {
    const known = new Set<string>(Object.values(featureRegisters).flat())
    for (const list of Object.values(cpuModels))
      expect(list.split(' ').filter(name => name !== '' && !known.has(name))).toEqual([])
    expect(offeredFeatures('Haswell,-avx2')?.has('avx2')).toBe(false)
    expect(offeredFeatures('Haswell')?.has('avx2')).toBe(true)
    expect(offeredFeatures('host')).toBeUndefined()
  })

  test('a line is widened by what is missing, and by nothing that a guest cannot miss', () => {
    expect(widenedLine('qemu64,-svm', ['sse4_1', 'pni', 'ht', 'svm', 'hypervisor'])).toBe(
      'qemu64,+sse4.1,+svm',
    )
    expect(widenedLine('qemu64', ['pni', 'lm'])).toBe('qemu64')
  })
})

describe('gem5 and features', () => {
  const plain = { era: 'v24', rawRam: true, ignoreFeatures: false } as const
  const machine = async (features: string[] | undefined, change = (_: MachineImage) => {}) => {
    const image = await readQemu(qemuSample('timer', temporaryFolder()))
    const changed: MachineImage = { ...image, ...(features ? { cpuFeatures: new Set(features) } : {}) }
    change(changed)
    return changed
  }
  const target = () => path.join(temporaryFolder(), 'out')

  test('a guest that was offered what gem5 lacks is refused, with the names and how to capture it again', async () => {
    const image = await machine(['sse2', 'popcnt', 'avx2'])
    await expect(writeGem5(image, target(), plain)).rejects.toMatchObject({
      message: expect.stringContaining('popcnt, avx2'),
      details: { hint: expect.stringContaining(',-popcnt,-avx2') },
    })
    expect(await writeGem5(image, target(), { ...plain, ignoreFeatures: true })).toBeInstanceOf(Array)
  })

  test('what the control registers show in use is refused although nothing says what was offered', async () => {
    const image = await machine(undefined, ({ cpus }) => {
      cpus[0]!.control.cr4 |= 1n << 17n
    })
    await expect(writeGem5(image, target(), plain)).rejects.toThrow(/pcid/)
  })

  test('SMEP is kept and not enforced; an unknown CPU, and what 2011 lacks, are told', async () => {
    const told = async (image: MachineImage, era: 'v24' | '2011') =>
      (await writeGem5(image, target(), { ...plain, era }))
        .filter(({ field }) => field === 'features')
        .map(({ detail }) => detail)
    const protectedOne = await machine(['sse2'], ({ cpus }) => {
      cpus[0]!.control.cr4 |= 1n << 20n
    })
    expect(await told(protectedOne, 'v24')).toEqual([expect.stringContaining('smep')])
    expect(await told(await machine(undefined), 'v24')).toEqual([expect.stringContaining('--vmlinux')])
    expect(await told(await machine(['rdtscp', 'hypervisor', 'ht']), '2011')).toEqual([
      expect.stringContaining('rdtscp: not in gem5 of 2011'),
    ])
  })
})
