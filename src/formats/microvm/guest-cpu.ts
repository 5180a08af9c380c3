/** The CPU of a guest of the monitor, as far as it follows from the layout of its memory. */
import { GDT_LIMIT, SELECTOR } from '../../isa/x86-64-gdt.js'
import { encodeSpecialRegisters, type KvmSegment, MSR } from '../../isa/x86-64-kvm.js'
import { AREA, CONTROL, IDT_LIMIT, type Layout, TSS_LIMIT } from './guest-layout.js'

/** MSRs of every guest. */
export function guestMsrs(layout: Layout): Array<{ index: number; value: bigint }> {
  return [
    { index: MSR.EFER, value: CONTROL.efer },
    { index: MSR.STAR, value: CONTROL.star },
    { index: MSR.LSTAR, value: BigInt(layout.memorySize + AREA.syscallStub) },
    { index: MSR.SFMASK, value: CONTROL.sfmask },
  ]
}

/** The special registers of every guest: they follow from the layout, but for the two bases. */
export function specialRegistersFor(layout: Layout, fsBase: bigint, gsBase: bigint): Uint8Array {
  const area = layout.memorySize
  const flat: KvmSegment = {
    base: 0n,
    limit: 0xffffffff,
    selector: SELECTOR.userData,
    type: 3,
    present: 1,
    dpl: 3,
    db: 1,
    s: 1,
    l: 0,
    g: 1,
    avl: 0,
    unusable: 0,
  }
  const none: KvmSegment = {
    ...flat,
    limit: 0,
    selector: 0,
    type: 2,
    present: 0,
    dpl: 0,
    db: 0,
    s: 0,
    g: 0,
    unusable: 1,
  }
  return encodeSpecialRegisters({
    segments: {
      cs: { ...flat, selector: SELECTOR.userCode, type: 11, db: 0, l: 1 },
      ds: flat,
      es: flat,
      fs: { ...flat, base: fsBase },
      gs: { ...flat, base: gsBase },
      ss: flat,
      tr: {
        ...none,
        base: BigInt(area + AREA.tss),
        limit: TSS_LIMIT,
        selector: SELECTOR.tss,
        type: 11,
        present: 1,
        unusable: 0,
      },
      ldt: none,
    },
    gdt: { base: BigInt(area + AREA.gdt), limit: GDT_LIMIT },
    idt: { base: BigInt(area + AREA.idt), limit: IDT_LIMIT },
    cr0: CONTROL.cr0,
    cr2: 0n,
    cr3: BigInt(area + AREA.pml4),
    cr4: CONTROL.cr4,
    cr8: 0n,
    efer: CONTROL.efer,
    apicBase: 0xfee00900n, // enabled, bootstrap processor: the value after reset
    interrupts: [0n, 0n, 0n, 0n],
  })
}
