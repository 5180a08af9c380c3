/** What imago uses of capstone-wasm 1.0, whose package names its own declarations where TypeScript does not look. */
declare module 'capstone-wasm' {
  export const Const: Readonly<
    Record<'CS_ARCH_X86' | 'CS_ARCH_ARM64' | 'CS_MODE_64' | 'CS_MODE_LITTLE_ENDIAN', number>
  >
  /** To be called once, before anything else. */
  export function loadCapstone(): Promise<void>
  export class Capstone {
    constructor(architecture: number, mode: number)
    /** @throws Error when the first bytes are no instruction. */
    disasm(
      code: Uint8Array,
      options: { address: number | bigint },
    ): Array<{ address: number | bigint; bytes: Uint8Array; mnemonic: string; opStr: string }>
    close(): void
  }
}
