/** PCI: devices named `0000:00:01.1/ide`, each with a field of the type `pci config`. Source: QEMU hw/pci/pci.c. */
import { crossesInto } from '../../../isa/pci.js'
import type { CompoundRow } from '../../machine-table.js'
import type { Fields } from './clock.js'

export const pciFunctions: CompoundRow<Fields> = {
  about:
    'configuration space of every PCI function; written where the template has the same one at the same address',
  read(raw, { devices }) {
    const functions = [...raw.pciConfigurations()]
    if (functions.length > 0)
      devices.pciFunctions = new Map(functions.map(({ address, bytes }) => [address, bytes]))
  },
  write({ devices }, raw) {
    for (const { address, field, bytes } of raw.pciConfigurations()) {
      const given = devices.pciFunctions?.get(address)
      if (!crossesInto(given, bytes)) continue
      const whole = bytes.slice()
      whole.set(given.subarray(0, whole.length))
      raw.set(field, whole)
    }
  },
}
