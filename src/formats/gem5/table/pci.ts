/** PCI: the only function is the IDE controller, at 00:04.0. Source: gem5 src/dev/x86/SouthBridge.py, src/dev/pci/device.cc. */
import { crossesInto } from '../../../isa/pci.js'
import type { CompoundRow } from '../../machine-table.js'
import type { Fields } from './common.js'

const IDE_ADDRESS = '00:04.0'
const CONFIGURATION = 'ide.config.data'

export const pciFunctions: CompoundRow<Fields> = {
  about: 'configuration space of the IDE controller, where both sides have the same one',
  read(raw, { devices }) {
    const bytes = raw.get(CONFIGURATION)
    if (Array.isArray(bytes)) devices.pciFunctions = new Map([[IDE_ADDRESS, Uint8Array.from(bytes, Number)]])
  },
  write({ devices }, raw) {
    const bytes = raw.get(CONFIGURATION)
    const given = devices.pciFunctions?.get(IDE_ADDRESS)
    if (!Array.isArray(bytes) || !crossesInto(given, Uint8Array.from(bytes, Number))) return
    raw.set(
      CONFIGURATION,
      Array.from(given.subarray(0, bytes.length), byte => BigInt(byte)),
    )
  },
}
