/** What the page of a machine image is drawn from. */
import { withKernelClock } from '../../isa/linux-clock.js'
import { kernelFeatures, kernelSlide } from '../../isa/linux-kernel.js'
import { hex } from '../../lib/bytes.js'
import { type KernelSymbols, openKernelSymbols } from '../../lib/kernel-symbols.js'
import type { Cpu, MachineImage } from '../../model/machine.js'

export interface MachineViewOptions {
  /** The kernel's symbols: a vmlinux, System.map or kallsyms. */
  readonly vmlinux?: string
  readonly registers?: boolean
}

/** What the page says besides the image itself: the names that the kernel's symbols give, its CPU features and its clock. */
export interface MachinePage {
  readonly image: MachineImage
  /** How far KASLR moved the kernel; undefined without symbols. */
  readonly slide: bigint | undefined
  nameOf(cpu: Cpu, address: bigint): string | undefined
}

/** @throws UnreadableError when `vmlinux` holds no symbols. */
export function machinePage(image: MachineImage, { vmlinux }: MachineViewOptions): MachinePage {
  if (vmlinux === undefined) return { image, slide: undefined, nameOf: () => undefined }
  const symbols = openKernelSymbols(vmlinux)
  const features = kernelFeatures(image, symbols)
  const cpu = image.cpus[0]
  const informed = features === undefined ? image : { ...image, cpuFeatures: features }
  return {
    image: withKernelClock(informed, symbols),
    slide: cpu === undefined ? undefined : kernelSlide(cpu, symbols),
    nameOf: (cpu, address) => nameOf(symbols, address - kernelSlide(cpu, symbols)),
  }
}

function nameOf(symbols: KernelSymbols, address: bigint): string | undefined {
  const symbol = symbols.at(address)
  return symbol && `${symbol.name}${symbol.offset > 0 ? `+${hex(symbol.offset)}` : ''}`
}
