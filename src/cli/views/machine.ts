/** A machine image as one page. */
import type { MachineImage } from '../../model/machine.js'

export function machineImageText(image: MachineImage): string {
  return `machine image, format ${image.origin.format}, ${image.isa}`
}

export function machineImageJson(image: MachineImage): object {
  const { raw: _, ...origin } = image.origin
  return { kind: 'machine', isa: image.isa, origin }
}
