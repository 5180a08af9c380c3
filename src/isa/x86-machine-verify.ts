/** What must hold for any machine image, whatever its format: Intel SDM 3 (control registers, segments, APIC). */

import { hex } from '../lib/bytes.js'
import type { Cpu, MachineImage } from '../model/machine.js'
import { ramRanges } from '../model/machine-memory.js'
import { readLinear } from './x86-paging.js'

const bit = (value: bigint, at: number) => (value >> BigInt(at)) & 1n

/** Problems in words, one each; none for a consistent image. */
export function verifyMachineImage(image: MachineImage): string[] {
  const problems: string[] = []
  if (image.cpus.length === 0) problems.push('the image holds no CPU')
  for (const [i, cpu] of image.cpus.entries())
    problems.push(
      ...[...(image.userOnly ? [] : verifyModes(cpu, image)), ...verifyApic(cpu)].map(problem =>
        image.cpus.length > 1 ? `CPU ${i}: ${problem}` : problem,
      ),
    )
  for (const { start, length } of ramRanges(image.memory))
    if (length % 4096 !== 0 || start % 4096n !== 0n)
      problems.push(`RAM of ${length} bytes at ${hex(start)} is not whole pages`)
  if (image.memory.byteCount === 0) problems.push('the image holds no RAM')
  problems.push(...verifyDevices(image))
  return problems
}

function verifyModes(cpu: Cpu, { memory }: MachineImage): string[] {
  const problems: string[] = []
  const { cr0, cr3, cr4 } = cpu.control
  const { efer } = cpu.msr
  const paging = bit(cr0, 31)
  if (paging && !bit(cr0, 0)) problems.push('CR0 has paging without protection')
  if (bit(efer, 10) !== (bit(efer, 8) & paging))
    problems.push(`EFER.LMA is ${bit(efer, 10)} where LME and CR0.PG make it ${bit(efer, 8) & paging}`)
  if (bit(efer, 10) && !bit(cr4, 5)) problems.push('long mode without CR4.PAE')
  if (!(cpu.rflags & 2n)) problems.push('RFLAGS bit 1 is clear')
  if (bit(cpu.rflags, 17) && bit(efer, 10)) problems.push('RFLAGS.VM in long mode')
  const { cs, ss } = cpu.segments
  if (bit(cr0, 0)) {
    if ((cs.attributes & 0x18) !== 0x18)
      problems.push(`CS is no code segment (attributes ${hex(cs.attributes)})`)
    if (cs.attributes & 0x2000 && cs.attributes & 0x4000) problems.push('CS has both L and D')
    const dpl = (ss.attributes >> 5) & 3
    if ((ss.attributes & 0x10000) === 0 && dpl !== ((cs.attributes >> 5) & 3) && !(cs.attributes & 4))
      problems.push(`SS has DPL ${dpl}, CS ${(cs.attributes >> 5) & 3}`)
  }
  for (const [name, { attributes }] of Object.entries(cpu.segments))
    if (!(attributes & 0x80) && !(attributes & 0x10000))
      problems.push(`${name.toUpperCase()} is not present and yet usable`)
  if (paging && memory.byteCount > 0) {
    if (!memory.covers(cr3 & 0x000ffffffffff000n, (cr3 & 0x000ffffffffff000n) + 4096n))
      problems.push(`CR3 ${hex(cr3)} points outside RAM`)
    else if (readLinear(memory, { ...cpu.control, efer }, cpu.rip, 1) === undefined)
      problems.push(`RIP ${hex(cpu.rip)} is not mapped by the guest’s page tables`)
  }
  return problems
}

function verifyApic(cpu: Cpu): string[] {
  const { apic } = cpu
  if (apic === undefined) return []
  const problems: string[] = []
  // Vectors 0–15 are reserved: neither requested nor in service.
  if ((apic.requested[0]! & 0xffff) !== 0) problems.push('the local APIC requests a vector below 16')
  if ((apic.inService[0]! & 0xffff) !== 0) problems.push('the local APIC serves a vector below 16')
  if (!(apic.spurious & 0x100) && apic.requested.some(word => word !== 0))
    problems.push('the local APIC is disabled and has requests')
  const { timer } = apic
  if (timer.remaining !== undefined && timer.initialCount === 0)
    problems.push('the APIC timer runs with an initial count of 0')
  if (timer.remaining !== undefined && timer.rate !== undefined) {
    const divide = 1 << ((((timer.divide & 8) >> 1) + (timer.divide & 3) + 1) & 7)
    const period = (timer.initialCount * divide * 1e12) / timer.rate
    if (Number(timer.remaining) > period + 1e6)
      problems.push('the APIC timer has more time left than its initial count gives')
  }
  return problems
}

function verifyDevices({ devices }: MachineImage): string[] {
  const problems: string[] = []
  for (const [name, pic] of Object.entries(devices.pic ?? {}))
    if (pic.initialisation === 0 && pic.vectorBase % 8 !== 0)
      problems.push(`the ${name} PIC has vector base ${hex(pic.vectorBase)}, which is no multiple of 8`)
  for (const [i, channel] of (devices.pit?.channels ?? []).entries())
    if (channel.reload < 1 || channel.reload > 65536)
      problems.push(`PIT channel ${i} counts from ${channel.reload}`)
  for (const [i, entry] of (devices.ioApic?.redirection ?? []).entries())
    if (!(entry & 0x10000n) && (entry & 0x700n) === 0n && (entry & 0xffn) < 16n)
      problems.push(`I/O APIC input ${i} is open with vector ${entry & 0xffn}`)
  return problems
}
