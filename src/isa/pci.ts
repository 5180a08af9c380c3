/** PCI configuration space. Source: PCI Local Bus Specification 3.0, 6.1. */

/** `8086:7010`, vendor and device. */
export const pciId = (configuration: Uint8Array): string =>
  configuration.length < 4
    ? 'unknown'
    : [1, 0, 3, 2]
        .map(at => configuration[at]!.toString(16).padStart(2, '0'))
        .join('')
        .replace(/^(.{4})/, '$1:')

/** Base class, bytes 11 and 10. */
const classes: Readonly<Record<number, string>> = {
  257: 'IDE controller',
  262: 'SATA controller',
  512: 'network',
  768: 'VGA',
  1536: 'host bridge',
  1537: 'ISA bridge',
  1540: 'PCI bridge',
  1664: 'bridge',
  3075: 'USB',
}
export const pciClass = (configuration: Uint8Array): string => {
  const code = ((configuration[11] ?? 0) << 8) | (configuration[10] ?? 0)
  return classes[code] ?? `class ${code.toString(16).padStart(4, '0')}`
}

/** Whether a function's configuration may stand in for that of another machine: both are the same device. */
export function crossesInto(given: Uint8Array | undefined, there: Uint8Array): given is Uint8Array {
  return given !== undefined && given.length >= 4 && there.length >= 4 && pciId(given) === pciId(there)
}
