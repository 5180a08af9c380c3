/**
 * A guest that waits for its serial line's transmitter sleeps until an interrupt tells it that the line is free. QEMU
 * raises one when the state changes, not when a stream is loaded; so where the image says that an interrupt is due and
 * its IIR does not show one (gem5 has no IIR), the interrupt is written as already requested. One too many is harmless:
 * the driver reads the IIR and finds nothing.
 */
import type { MachineState } from '../../model/machine.js'

const SERIAL_INPUT = 4
const TRANSMITTER = 2
/** IIR: bit 0 set is "none", 2 is "transmitter empty". */
const NONE = 1
/** Redirection entry: mask, and a delivery mode other than fixed or lowest priority. */
const UNUSABLE = 0x10000n | 0x600n

/** The same machine, its writer about to be woken. */
export function withWriterWoken(state: MachineState): MachineState {
  const { serial } = state.devices
  if (
    serial === undefined ||
    !serial.transmitInterrupt ||
    (serial.interruptEnable & TRANSMITTER) === 0 ||
    (serial.interruptIdentification & NONE) === 0
  )
    return state
  const identification = (serial.interruptIdentification & ~0xf) | TRANSMITTER
  const devices = {
    ...state.devices,
    serial: { ...serial, interruptIdentification: identification, lineStatus: serial.lineStatus | 0x60 },
  }
  const entry = devices.ioApic?.redirection[SERIAL_INPUT] ?? UNUSABLE
  const { apic } = state.cpu
  if ((entry & UNUSABLE) === 0n && apic !== undefined) {
    const vector = Number(entry & 0xffn)
    const requested = apic.requested.with(
      vector >> 5,
      (apic.requested[vector >> 5]! | (1 << (vector & 31))) >>> 0,
    )
    return { cpu: { ...state.cpu, apic: { ...apic, requested } }, devices }
  }
  if (devices.pic === undefined) return { ...state, devices }
  const { master } = devices.pic
  const raised = { ...master, requested: master.requested | (1 << SERIAL_INPUT) }
  return { ...state, devices: { ...devices, pic: { ...devices.pic, master: raised } } }
}
