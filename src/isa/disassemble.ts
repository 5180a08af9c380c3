/** Machine code in words, by Capstone (as WebAssembly: no native part, and 30 ms only where a listing is asked for). */
import { Capstone, Const, loadCapstone } from 'capstone-wasm'

export interface Instruction {
  readonly address: bigint
  readonly bytes: Uint8Array
  /** In Intel's syntax for x86: `mov rax, rbx`; '(bad)' for a byte (or word) that begins no instruction. */
  readonly text: string
}

const modes = {
  'x86-64': [Const.CS_ARCH_X86, Const.CS_MODE_64, 1],
  aarch64: [Const.CS_ARCH_ARM64, Const.CS_MODE_LITTLE_ENDIAN, 4],
} as const

let loaded: Promise<void> | undefined

/** The instructions in `code`, which lies at `address`. One that is cut at the end is left out. */
export async function disassemble(
  isa: keyof typeof modes,
  code: Uint8Array,
  address: bigint,
): Promise<Instruction[]> {
  loaded ??= loadCapstone()
  await loaded
  const [architecture, mode, step] = modes[isa]
  const capstone = new Capstone(architecture, mode)
  const instructions: Instruction[] = []
  try {
    for (let at = 0; at < code.length; ) {
      const found = decode(capstone, code.subarray(at), address + BigInt(at))
      instructions.push(...found)
      for (const { bytes } of found) at += bytes.length
      if (at >= code.length || code.length - at < LONGEST[isa]) break
      instructions.push({ address: address + BigInt(at), bytes: code.slice(at, at + step), text: '(bad)' })
      at += step
    }
  } finally {
    capstone.close()
  }
  return instructions
}

/** So many bytes at the end may be an instruction that is cut there (Intel SDM 2A, 2.3.11). */
const LONGEST = { 'x86-64': 15, aarch64: 4 } as const

/** As far as the bytes make sense: Capstone throws when the first ones do not. */
function decode(capstone: Capstone, code: Uint8Array, address: bigint): Instruction[] {
  try {
    return capstone.disasm(code, { address }).map(({ address, bytes, mnemonic, opStr }) => ({
      address: BigInt(address),
      bytes: bytes.slice(),
      text: opStr === '' ? mnemonic : `${mnemonic} ${opStr}`,
    }))
  } catch {
    return []
  }
}
