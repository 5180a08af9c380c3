/**
 * What gem5's X86 CPU offers. Values of its CPUID: v24.0 as measured; 2011 as src/arch/x86/cpuid.cc of that time says.
 */
import { baseFeatures, featuresInUse, featuresOf, informationalFeatures } from '../../isa/x86-cpu-features.js'
import { kvmMsrNumbers, type MachineImage } from '../../model/machine.js'
import type { Loss } from '../format.js'
import type { Gem5Era } from './blank-checkpoint.js'

const offered: Readonly<Record<Gem5Era, ReadonlySet<string>>> = {
  v24: featuresOf({
    '1.edx': 0xefdbfbff,
    '1.ecx': 0x209,
    '7.ebx': 0x01800000,
    '80000001.edx': 0xebd3fbff,
    '80000001.ecx': 0x20001,
  }),
  '2011': featuresOf({
    '1.edx': 0xe7dbfbff,
    '1.ecx': 1,
    '80000001.edx': 0xe3d3fbff,
    '80000001.ecx': 1,
  }),
}

/** A guest that booted in gem5 has seen this. */
export const gem5Features = (era: Gem5Era): ReadonlySet<string> => offered[era]

/** gem5 keeps the control bit of these and does not enforce it: the guest runs, less protected. */
const unenforced: ReadonlySet<string> = new Set(['smep', 'umip'])

/** What a guest takes from KVM while the lowest bit of the MSR is set, as `-cpu` names it. */
const kvmFeatures: Readonly<Record<number, string>> = {
  [kvmMsrNumbers.systemTime]: 'kvmclock',
  [kvmMsrNumbers.asyncPageFault]: 'kvm-asyncpf',
  [kvmMsrNumbers.stealTime]: 'kvm-steal-time',
  [kvmMsrNumbers.endOfInterrupt]: 'kvm-pv-eoi',
}

/** Features that the guest was offered (where known), or that its control registers show in use. */
function wanted(image: MachineImage): Set<string> {
  const { control, xcr0, otherMsrs } = image.cpus[0]!
  const paravirtual = [...(otherMsrs ?? [])].flatMap(([number, value]) =>
    value & 1n ? (kvmFeatures[number] ?? []) : [],
  )
  return new Set([...featuresInUse({ cr4: control.cr4, xcr0 }), ...paravirtual, ...(image.cpuFeatures ?? [])])
}

/** What the guest may use and no gem5 has: it cannot go on there. */
export function missingFeatures(image: MachineImage): string[] {
  return [...wanted(image)].filter(
    name =>
      !offered.v24.has(name) &&
      !baseFeatures.has(name) &&
      !unenforced.has(name) &&
      !informationalFeatures.has(name),
  )
}

/** What the writer cannot promise: features that are not known, not enforced, or not of that time. */
export function featureLosses(image: MachineImage, era: Gem5Era): Loss[] {
  const loss = (kind: Loss['kind'], detail: string): Loss => ({
    kind,
    subject: 'CPU',
    field: 'features',
    detail,
  })
  const names = wanted(image)
  const losses: Loss[] = []
  if (image.cpuFeatures === undefined && !image.userOnly)
    losses.push(
      loss(
        'defaulted',
        'nothing says what the guest’s CPU offered: taken for no more than gem5’s (--cpu, --vmlinux)',
      ),
    )
  const weak = [...names].filter(name => unenforced.has(name))
  if (weak.length > 0) losses.push(loss('dropped', `${weak.join(', ')}: kept in CR4, not enforced by gem5`))
  const late = [...names].filter(name => offered.v24.has(name) && !offered[era].has(name))
  if (late.length > 0) losses.push(loss('dropped', `${late.join(', ')}: not in gem5 of ${era}`))
  return losses
}
