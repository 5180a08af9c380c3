/**
 * The counting Linux, booted once and stopped at moments of a wished kind: it is stopped at random, saved, and looked
 * at; when the moment is of another kind it goes on and is stopped again. So the kind is what the image itself says.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Emulator } from '../../../src/engines/qemu/emulator.js'
import { monitor } from '../../../src/engines/qemu/instructions.js'
import { DEFAULT_APPEND, DEFAULT_LINE, machineWords } from '../../../src/engines/qemu/machine-line.js'
import { saveMachine } from '../../../src/engines/qemu/save.js'
import { readImage } from '../../../src/formats/registry.js'
import type { MachineImage } from '../../../src/model/machine.js'

export interface Moment {
  /** Whether a machine was stopped at such a moment. */
  matches(image: MachineImage): boolean
  /** When to stop it, so that the moment comes soon: right in a line, or this long after the end of one. */
  readonly stop: 'in a line' | { readonly afterLineMs: number }
  /** An instruction a translation block: what takes microseconds (a line being printed) then takes milliseconds. */
  readonly slow: boolean
}

/** The bits of IER. */
const TRANSMIT_EMPTY = 2

const inUserMode = (image: MachineImage) => (image.cpus[0]!.segments.cs.selector & 3) === 3

/** The APIC timer's interrupt has been raised, and the CPU has not taken it yet. */
function timerWaits({ cpus: [cpu] }: MachineImage): boolean {
  const vector = cpu!.apic!.lvt.timer & 0xff
  return ((cpu!.apic!.requested[vector >> 5]! >> (vector & 31)) & 1) === 1
}

export const moments = {
  'idle in HLT': {
    matches: ({ cpus: [cpu] }) => cpu!.halted,
    stop: { afterLineMs: 100 },
    slow: false,
  },
  'in user mode with SSE live': {
    matches: image => inUserMode(image) && image.cpus[0]!.xmm.some(value => value !== 0n),
    stop: { afterLineMs: 700 },
    slow: true,
  },
  'with its timer pending': { matches: timerWaits, stop: { afterLineMs: 40 }, slow: true },
  'with the serial line busy': {
    matches: ({ devices: { serial } }) => (serial!.interruptEnable & TRANSMIT_EMPTY) !== 0,
    stop: 'in a line',
    slow: true,
  },
} as const satisfies Readonly<Record<string, Moment>>

/** What a guest prints, and when each piece came, on the clock of `performance.now()`. */
export class SerialText {
  text = ''
  lastAt = 0
  #waiting: (() => void) | undefined

  readonly receive = (bytes: Uint8Array) => {
    this.text += Buffer.from(bytes).toString('latin1')
    this.lastAt = performance.now()
    this.#waiting?.()
  }

  /** Waits until `reached` holds of the text. @throws Error with the last words when that takes too long. */
  async until(reached: (text: string) => boolean, timeoutMs = 120_000): Promise<void> {
    const end = performance.now() + timeoutMs
    while (!reached(this.text)) {
      if (performance.now() > end)
        throw new Error(`the guest said only ${JSON.stringify(this.text.slice(-2000))}`)
      await Promise.race([new Promise<void>(resolve => (this.#waiting = resolve)), sleep(1000)])
    }
  }
}

/** Stops until the hunt for a moment is given up. */
const MAX_STOPS = 300

export class CountingLinux {
  readonly serial: SerialText
  readonly #emulator: Emulator

  private constructor(emulator: Emulator, serial: SerialText) {
    this.#emulator = emulator
    this.serial = serial
  }

  /** Boots it and waits for its first line. */
  static async boot(files: { kernel: string; initrd: string }): Promise<CountingLinux> {
    const serial = new SerialText()
    const words = machineWords(DEFAULT_LINE, { ...files, append: DEFAULT_APPEND })
    const emulator = await Emulator.start(words, { serial: serial.receive, paused: true })
    try {
      await emulator.qmp.execute('cont')
      await serial.until(text => /^LOOP 1 .*\n/m.test(text))
      await emulator.qmp.execute('stop')
      return new CountingLinux(emulator, serial)
    } catch (error) {
      await emulator.stop()
      throw error
    }
  }

  /** Goes on until it was stopped at such a moment, and saves it there. Returns how long ago the last output came, in ms. */
  async save(moment: Moment, output: string): Promise<number> {
    const { qmp } = this.#emulator
    await monitor(this.#emulator, [`one-insn-per-tb ${onOff(moment.slow)}`, `singlestep ${onOff(moment.slow)}`])
    for (let stops = 0; stops < MAX_STOPS; stops++) {
      const before = this.serial.text.length
      await qmp.execute('cont')
      if (moment.stop === 'in a line') await this.serial.until(text => text.length > before)
      else {
        await this.serial.until(text => text.length > before && text.endsWith('\n'))
        await sleep(Math.random() * 2 * moment.stop.afterLineMs)
      }
      await qmp.execute('stop')
      const silence = performance.now() - this.serial.lastAt
      await saveMachine(qmp, output)
      const { image } = await readImage(output)
      if ('cpus' in image && moment.matches(image)) return silence
    }
    throw new Error(`no such moment came in ${MAX_STOPS} stops`)
  }

  async end(): Promise<void> {
    await this.#emulator.stop()
  }
}

const onOff = (value: boolean) => (value ? 'on' : 'off')
