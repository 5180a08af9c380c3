/** What the kernel keeps of a process and the program's binary decides, or the host that it goes to. */
import type { Address } from '../model/memory.js'
import type { AddressSpaceLayout, Credentials, SignalAction } from '../model/process.js'
import type { ProgramBinary } from './program-binary.js'

/** The marks of its code and data in the address space. */
export function codeAndData(
  binary: ProgramBinary,
): Pick<AddressSpaceLayout, 'startCode' | 'endCode' | 'startData' | 'endData'> {
  const code = binary.loads.find(segment => segment.flags & 1)!
  const data = binary.loads.find(segment => segment.flags & 2) ?? code
  return {
    startCode: code.virtualAddress,
    endCode: code.virtualAddress + BigInt(code.fileSize),
    startData: data.virtualAddress,
    endData: data.virtualAddress + BigInt(data.fileSize),
  }
}

/** Handlers and restorers have the same address on both ISAs, or the same name. */
export function translateAction(
  action: SignalAction,
  source: ProgramBinary,
  target: ProgramBinary,
): SignalAction {
  const translate = (address: Address) => {
    const name = address > 1n ? source.functionAt(address) : undefined
    return name === undefined || target.functionAt(address) === name ? address : target.address(name)
  }
  return { ...action, handler: translate(action.handler), restorer: translate(action.restorer) }
}

/** A host that lacks a capability cannot give it back, and refuses the whole process. */
export function maskCapabilities(
  credentials: Credentials | undefined,
  mask: bigint | undefined,
): Credentials | undefined {
  const sets = credentials?.capabilities
  if (credentials === undefined || sets === undefined || mask === undefined) return credentials
  return {
    ...credentials,
    capabilities: {
      effective: sets.effective & mask,
      permitted: sets.permitted & mask,
      inheritable: sets.inheritable & mask,
      bounding: sets.bounding & mask,
      ambient: sets.ambient & mask,
    },
  }
}
