/** The block that the ScratchVM prints at each save and restore, line by line as its README shows it. */

export interface ScratchBlock {
  /** In the order in which they are printed. */
  readonly registers: ReadonlyArray<readonly [name: string, value: bigint]>
  readonly special: ReadonlyArray<readonly [name: string, value: bigint]>
  /** Name and number: the original prints numbers, not values. */
  readonly msrs: ReadonlyArray<readonly [name: string, index: number]>
  readonly memorySize: bigint
  readonly memoryBase: bigint
  readonly files: ReadonlyArray<{
    readonly name: string
    readonly guestFd: number
    readonly hostFd: number
    readonly startAddress: bigint
    readonly offset: bigint
  }>
  readonly rip: bigint
  /** Up to 32 bytes from rip on. */
  readonly instructions: Uint8Array
}

export function scratchBlock(block: ScratchBlock): string[] {
  const bytes = [...block.instructions].map(byte => byte.toString(16).padStart(2, '0'))
  return [
    '===== VM Image Info: ======',
    'Registers:',
    ...block.registers.map(([name, value]) => `${name}: ${value.toString(16)}`),
    'SRegisters:',
    ...block.special.map(([name, value]) => `${name}: ${value.toString(16)}`),
    'MSRs:',
    `Number of MSRs: ${block.msrs.length}`,
    ...block.msrs.map(([name, index]) => `${name}: ${index.toString(16)}`),
    `Memory Size: ${block.memorySize}`,
    `Guest Memory Physical Base: ${block.memoryBase}`,
    `Number of Open Files: ${block.files.length}`,
    ...block.files.map(
      (file, i) =>
        `Open File ${i} (${file.name}): Guest FD: ${file.guestFd}, Host FD: ${file.hostFd}, Starting address: ${file.startAddress}, Offset: ${file.offset}`,
    ),
    `Upcoming instructions at RIP=0x${block.rip.toString(16)}:`,
    ...[0, 16].filter(at => at < bytes.length).map(at => bytes.slice(at, at + 16).join(' ')),
    '==========================',
  ]
}
