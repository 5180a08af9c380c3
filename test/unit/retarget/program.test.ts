import { expect, test } from 'vitest'
import { describeProgram } from '../../../src/toolchain/program.js'

const good = () => ({
  schema: 1,
  name: 'small',
  identity: '00'.repeat(32),
  binaries: {
    'x86-64': { path: 'small_x86-64', sha256: '11'.repeat(32) },
    aarch64: { path: 'small_aarch64', sha256: '22'.repeat(32) },
  },
  functions: [
    {
      name: 'main',
      shadowSize: 32,
      frame: { 'x86-64': { size: 48, record: 16 }, aarch64: { size: 64, record: 32 } },
    },
  ],
  sites: [{ id: 1, function: 0, returnAddress: { 'x86-64': '0x401010', aarch64: '0x401024' } }],
})

test('a description becomes sites and frames, paths relative to its folder', () => {
  const program = describeProgram(good(), '/a/small.imago.json')
  expect(program.binaries.aarch64.path).toBe('/a/small_aarch64')
  expect(program.sites.get(1)?.returnAddress['x86-64']).toBe(0x401010n)
})

/** Each a way to damage a description, and what the refusal says. */
const damages: ReadonlyArray<readonly [string, (value: ReturnType<typeof good>) => unknown, RegExp]> = [
  ['another version', value => Object.assign(value, { schema: 2 }), /another version/],
  ['no sites', value => void delete (value as Partial<typeof value>).sites, /sites is no list/],
  [
    'a site of no function',
    value => Object.assign(value.sites[0]!, { function: 1 }),
    /function is not between/,
  ],
  ['a site twice', value => void value.sites.push(value.sites[0]!), /described twice/],
  ['an odd frame', value => Object.assign(value.functions[0]!.frame.aarch64, { size: 60 }), /multiple of 8/],
  [
    'a record outside its frame',
    value => Object.assign(value.functions[0]!.frame.aarch64, { record: 72 }),
    /no frame layout/,
  ],
  [
    'an address of nothing',
    value => Object.assign(value.sites[0]!.returnAddress, { aarch64: 'x' }),
    /no address/,
  ],
  ['a hash cut short', value => Object.assign(value.binaries.aarch64, { sha256: '22' }), /32 bytes/],
  [
    'half a program',
    value => void delete (value.binaries as Partial<typeof value.binaries>).aarch64,
    /aarch64/,
  ],
]
for (const [name, damage, message] of damages)
  test(`refused: ${name}`, () => {
    const value = good()
    damage(value)
    expect(() => describeProgram(value, '/a/small.imago.json')).toThrow(message)
  })
