/**
 * The serial port as QEMU can go on with it. Its loader refuses a port whose line status does not say whether a byte is
 * being sent; and nothing would send what waits behind a shift register that is empty.
 *
 * A guest that waits for its serial line's transmitter sleeps until an interrupt tells it that the line is free. QEMU
 * raises one when the state changes, not when a stream is loaded; so where the image says that an interrupt is due and
 * its IIR does not show one (gem5 has no IIR), the interrupt is written as already requested. One too many is harmless:
 * the driver reads the IIR and finds nothing.
 */
import type { MachineState } from '../../model/machine.js'
import { HOLDING_EMPTY } from './table/ports.js'

const SERIAL_INPUT = 4
const TRANSMITTER = 2
/** IIR: bit 0 set is "none", 2 is "transmitter empty". */
const NONE = 1
/** Redirection entry: mask, and a delivery mode other than fixed or lowest priority. */
const UNUSABLE = 0x10000n | 0x600n

/** LSR: the shift register is empty, too. */
const ALL_SENT = 0x40

/** The same machine, its serial port at work, its writer about to be woken. */
export function withSerialAtWork(state: MachineState): MachineState {
  return withWriterWoken(withLineStatus(state))
}

function withLineStatus(state: MachineState): MachineState {
  const { serial } = state.devices
  if (serial === undefined) return state
  const starts = serial.transmitting === undefined && serial.transmitFifo.length > 0
  const transmitting = starts ? serial.transmitFifo[0] : serial.transmitting
  const transmitFifo = starts ? serial.transmitFifo.subarray(1) : serial.transmitFifo
  const empty = transmitFifo.length === 0
  const lineStatus =
    (serial.lineStatus & ~(HOLDING_EMPTY | ALL_SENT)) |
    (empty ? HOLDING_EMPTY : 0) |
    (transmitting === undefined ? ALL_SENT : 0)
  const transmitInterrupt = serial.transmitInterrupt && empty
  return {
    ...state,
    devices: {
      ...state.devices,
      serial: { ...serial, transmitting, transmitFifo, lineStatus, transmitInterrupt },
    },
  }
}

function withWriterWoken(state: MachineState): MachineState {
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
    serial: {
      ...serial,
      interruptIdentification: identification,
      lineStatus: serial.lineStatus | HOLDING_EMPTY,
    },
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
