/**
 * PCI: a context for each function, `pci0-0.1-1` (bus, device, function), with CONFIG_SPACE and its six BARs.
 * Source: Palacios devices/pci.c.
 */
import { crossesInto } from '../../../isa/pci.js'
import type { CompoundRow } from '../../machine-table.js'
import type { PalaciosFields } from '../fields.js'

export const pciFunctions: CompoundRow<PalaciosFields> = {
  about:
    'configuration space of every PCI function; written where the template has the same one at the same address',
  read(raw, { devices }) {
    const functions = raw.pciFunctions()
    if (functions.size > 0)
      devices.pciFunctions = new Map([...functions].map(([address, record]) => [address, record.data]))
  },
  write({ devices }, raw) {
    for (const [address, record] of raw.pciFunctions()) {
      const given = devices.pciFunctions?.get(address)
      if (!crossesInto(given, record.data)) continue
      const whole = record.data.slice()
      whole.set(given.subarray(0, whole.length))
      if (Buffer.compare(whole, record.data) === 0) continue
      record.data = whole
      record.text = undefined
    }
  },
}
