/**
 * How the ScratchVM lays its guest out: 61,440 bytes of memory, seen flat, its monitor's own structures below the
 * program. A guest of `vm run --seed-image` is laid out so too, and its image is whole: whoever sets the registers
 * and the memory of it can run it.
 *
 *   0x1000   PML4   0x2000   PDPT   0x3000   page directory: one page of 2 MiB
 *   0x4000   GDT    0x5000   TSS
 *   0x80a0   hlt ; sysretq: what LSTAR points to; a call is served at the hlt, so a saved rip is 0x80a1
 *   0x9000   the program (where it is linked), its heap after it
 *   0xd000   the stack
 *   0xf000   the end
 */
import { GDT_DESCRIPTORS, GDT_LIMIT, SELECTOR } from '../../isa/x86-64-gdt.js'
import { encodeSpecialRegisters, type KvmSegment, MSR } from '../../isa/x86-64-kvm.js'
import { HLT, SYSRETQ } from '../../isa/x86-64-program.js'

export const SEED_MEMORY = 61_440
/** Where a program and its stack may be. */
export const SEED_ROOM = { lowest: 0x9000, top: SEED_MEMORY, stackSize: 0x2000 }

const SEED = {
  pml4: 0x1000,
  pdpt: 0x2000,
  directory: 0x3000,
  gdt: 0x4000,
  tss: 0x5000,
  entry: 0x80a0,
} as const
const TSS_LIMIT = 0x67
/** rip of a guest whose system call is done: at the sysretq. */
export const SEED_RETURN = BigInt(SEED.entry + 1)

/** Writes the structures of the drawing, whatever was there. */
export function writeSeedArea(memory: Uint8Array): void {
  memory.fill(0, SEED.pml4, SEED_ROOM.lowest)
  const view = new DataView(memory.buffer, memory.byteOffset, memory.length)
  const put = (at: number, value: bigint) => view.setBigUint64(at, value, true)
  put(SEED.pml4, BigInt(SEED.pdpt) | 7n) // present, writable, user
  put(SEED.pdpt, BigInt(SEED.directory) | 7n)
  put(SEED.directory, 0x87n) // the same, a page of 2 MiB
  for (const [i, descriptor] of GDT_DESCRIPTORS.entries()) put(SEED.gdt + i * 8, descriptor)
  put(SEED.gdt + SELECTOR.tss, BigInt(TSS_LIMIT) | (BigInt(SEED.tss) << 16n) | (0x8bn << 40n))
  memory.set([HLT, ...SYSRETQ], SEED.entry)
}

/** CR0, CR4 and STAR are those of the ScratchVM. */
export const seedMsrs = [
  { index: MSR.EFER, value: 0x501n }, // SCE LME LMA
  { index: MSR.STAR, value: 0x0018_0008_0000_0000n },
  { index: MSR.LSTAR, value: BigInt(SEED.entry) },
] as const

/** Special registers in ring 0, at the sysretq, or in ring 3. */
export function seedSpecialRegisters(ring: 0 | 3, fsBase: bigint, gsBase: bigint): Uint8Array {
  const code = ring === 0 ? SELECTOR.kernelCode : SELECTOR.userCode
  const data = ring === 0 ? SELECTOR.kernelData : SELECTOR.userData
  const flat: KvmSegment = {
    ...{ base: 0n, limit: 0xffffffff, selector: data, type: 3, present: 1, dpl: ring },
    ...{ db: 1, s: 1, l: 0, g: 1, avl: 0, unusable: 0 },
  }
  const system: KvmSegment = { ...flat, limit: 0, selector: 0, type: 2, dpl: 0, db: 0, s: 0, g: 0 }
  return encodeSpecialRegisters({
    segments: {
      cs: { ...flat, selector: code, type: 11, db: 0, l: 1 },
      ds: flat,
      es: flat,
      fs: { ...flat, base: fsBase },
      gs: { ...flat, base: gsBase },
      ss: flat,
      tr: { ...system, base: BigInt(SEED.tss), limit: TSS_LIMIT, selector: SELECTOR.tss, type: 11 },
      ldt: { ...system, present: 0, unusable: 1 },
    },
    gdt: { base: BigInt(SEED.gdt), limit: GDT_LIMIT },
    idt: { base: 0n, limit: 0 },
    cr0: 0xe0000011n,
    cr2: 0n,
    cr3: BigInt(SEED.pml4),
    cr4: 0x620n,
    cr8: 0n,
    efer: seedMsrs[0].value,
    apicBase: 0xfee00900n,
    interrupts: [0n, 0n, 0n, 0n],
  })
}
