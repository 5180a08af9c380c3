import fc from 'fast-check'
import { expect, test } from 'vitest'
import { disassemble } from '../../../src/isa/disassemble.js'

const words = async (isa: 'x86-64' | 'aarch64', hex: string) =>
  (await disassemble(isa, Buffer.from(hex, 'hex'), 0x80a1n)).map(
    ({ address, text }) => `${address.toString(16)} ${text}`,
  )

test('instructions are named at their addresses, and what is none is marked and stepped over', async () => {
  expect(await words('x86-64', '480f074889d8')).toEqual(['80a1 sysretq', '80a4 mov rax, rbx'])
  expect(await words('x86-64', `ffff${'90'.repeat(16)}`)).toContain('80a1 (bad)')
  expect(await words('aarch64', 'c0035fd6')).toEqual(['80a1 ret'])
  expect(await words('x86-64', '48b8')).toEqual([]) // cut at the end
})

test('any bytes are listed without gaps, and never crash', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 64 }), async code => {
      let at = 0x1000n
      for (const { address, bytes } of await disassemble('x86-64', code, at)) {
        expect(address).toBe(at)
        at += BigInt(bytes.length)
      }
      expect(Number(at) - 0x1000).toBeGreaterThan(code.length - 15 - 1)
    }),
  )
})
