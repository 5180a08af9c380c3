/**
 * The counting Linux, booted once and stopped at moments of a wished kind: it is stopped at random (and stepped on from
 * there), and QEMU's monitor is asked; when the moment is of another kind it goes on and is stopped again. What was saved
 * is then judged by itself.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Emulator } from '../../../src/engines/qemu/emulator.js'
import { GdbClient } from '../../../src/engines/qemu/gdb.js'
import { DEFAULT_APPEND, DEFAULT_LINE, machineWords } from '../../../src/engines/qemu/machine-line.js'
import { monitor } from '../../../src/engines/qemu/monitor.js'
import { saveMachine } from '../../../src/engines/qemu/save.js'
import { readImage } from '../../../src/formats/registry.js'
import type { MachineImage } from '../../../src/model/machine.js'

export interface Moment {
  /** Whether a machine was stopped at such a moment. */
  matches(image: MachineImage): boolean
  /** Whether one stands at such a moment: what QEMU's monitor answers to `ask`, which is cheap. */
  readonly ask: string
  answers(answer: string): boolean
  /** When to stop it, so that the moment comes soon: right in a line, or this long after the end of one. */
  readonly stop: 'in a line' | { readonly afterLineMs: number }
  /** From there it is stepped up to the moment; its timers run, and it takes no interrupt. */
  readonly stepped?: true
  /** How the machine is slowed down, so that what takes microseconds then takes milliseconds. */
  readonly pace: keyof typeof paces
}

/** Commands of the monitor, in the spellings of its versions; they hold until the next ones. */
const paces = {
  full: [['one-insn-per-tb off', 'singlestep off']],
  /** An instruction a translation block. */
  slow: [['one-insn-per-tb on', 'singlestep on']],
} as const

/** The bits of IER. */
const TRANSMIT_EMPTY = 2

const inUserMode = (image: MachineImage) => (image.cpus[0]!.segments.cs.selector & 3) === 3

/**
 * The interrupt of the kernel's timer has been raised, and the CPU has not taken it yet. It is the APIC's timer; a kernel
 * that booted on a busy host may have found that one unreliable, has masked it, and uses the PIT.
 */
function timerWaits({ cpus: [cpu], devices }: MachineImage): boolean {
  const { lvt, requested } = cpu!.apic!
  const apicTimer = { vector: lvt.timer & 0xff, masked: (lvt.timer & 0x10000) !== 0 }
  const entry = devices.ioApic!.redirection[PIT_INPUT]!
  const pit = { vector: Number(entry & 0xffn), masked: (entry & 0x10000n) !== 0n }
  return [apicTimer, pit].some(
    ({ vector, masked }) => !masked && ((requested[vector >> 5]! >> (vector & 31)) & 1) === 1,
  )
}
const PIT_INPUT = 2
/** Linux gives the PIT this vector (ISA_IRQ_VECTOR(0)). */
const PIT_VECTOR = '48'

/** Whether the vector of the APIC's timer (LVTT), or the PIT's, is among those requested (IRR). */
function timerWaitsByMonitor(lapic: string): boolean {
  const apicTimer = /^LVTT\b(?!.*masked).*\(vec (\d+)\)/m.exec(lapic)?.[1]
  const requested = /^IRR\s+(.*)$/m.exec(lapic)?.[1] ?? ''
  return [...requested.matchAll(/\d+/g)].some(([each]) => each === apicTimer || each === PIT_VECTOR)
}

export const moments = {
  'idle in HLT': {
    matches: ({ cpus: [cpu] }) => cpu!.halted,
    ask: 'info registers',
    answers: registers => /\bHLT=1\b/.test(registers),
    stop: { afterLineMs: 100 },
    pace: 'full',
  },
  'in user mode with SSE live': {
    matches: image => inUserMode(image) && image.cpus[0]!.xmm.some(value => value !== 0n),
    ask: 'info registers',
    answers: registers => /\bCPL=3\b/.test(registers) && /^XMM.*=.*[1-9a-f]/m.test(registers),
    stop: { afterLineMs: 120 },
    pace: 'full',
  },
  'with its timer pending': {
    matches: timerWaits,
    ask: 'info lapic',
    answers: timerWaitsByMonitor,
    stop: 'in a line',
    stepped: true,
    pace: 'full',
  },
  'with the serial line busy': {
    matches: ({ devices: { serial } }) => (serial!.interruptEnable & TRANSMIT_EMPTY) !== 0,
    ask: 'i /b 0x3f9',
    answers: enabled => (Number(/= (0x[0-9a-f]+)/.exec(enabled)?.[1]) & TRANSMIT_EMPTY) !== 0,
    stop: 'in a line',
    pace: 'slow',
  },
} as const satisfies Readonly<Record<string, Moment>>

/** What a guest prints, and how long it has been running when it does, by this host's clock. */
export class SerialText {
  text = ''
  /** Seconds that the machine had run when the last whole line began, and when it ended. */
  lineBegan = 0
  lineEnded = 0
  #ran = 0
  #runsSince: number | undefined
  #waiting: (() => void) | undefined

  readonly receive = (bytes: Uint8Array) => {
    const piece = Buffer.from(bytes).toString('latin1')
    this.text += piece
    for (const _ of piece.matchAll(/\n/g)) [this.lineBegan, this.lineEnded] = [this.lineEnded, this.ran]
    this.#waiting?.()
  }

  /** The machine goes on, or is stopped. */
  set running(value: boolean) {
    this.#ran = this.ran
    this.#runsSince = value ? performance.now() : undefined
  }

  /** Seconds that the machine has run. */
  get ran(): number {
    return this.#ran + (this.#runsSince === undefined ? 0 : performance.now() - this.#runsSince) / 1000
  }

  /** Waits until `reached` holds of the text. @throws Error with the last words when that takes too long. */
  async until(reached: (text: string) => boolean, timeoutMs = 80_000): Promise<void> {
    const end = performance.now() + timeoutMs
    while (!reached(this.text)) {
      if (performance.now() > end)
        throw new Error(`the guest said only ${JSON.stringify(this.text.slice(-2000))}`)
      const piece = new Promise<void>(resolve => {
        this.#waiting = resolve
      })
      await Promise.race([piece, sleep(1000)])
    }
  }
}

/** A step takes the machine some microseconds at least, and its kernel's tick comes every four milliseconds. */
const MOST_STEPS = 4000

/** Until the hunt for a moment is given up. */
const HUNT_MS = 80_000

export class CountingLinux {
  readonly serial: SerialText
  readonly #emulator: Emulator

  private constructor(emulator: Emulator, serial: SerialText) {
    this.#emulator = emulator
    this.serial = serial
  }

  /**
   * Boots it and waits for its first line. Its kernel keeps silent: on a busy host it still reports on its clocks, and
   * within a line, when the loop has begun.
   * @param tscRate of this host: on a busy one the kernel would measure another, and its clock be wrong for good.
   */
  static async boot(files: { kernel: string; initrd: string }, tscRate: number): Promise<CountingLinux> {
    const serial = new SerialText()
    const append = `${DEFAULT_APPEND} loglevel=3 tsc_early_khz=${Math.round(tscRate / 1000)}`
    const words = machineWords(DEFAULT_LINE, { ...files, append })
    const emulator = await Emulator.start(words, { serial: serial.receive, paused: true })
    try {
      const linux = new CountingLinux(emulator, serial)
      await linux.#run()
      await serial.until(text => /^LOOP 1 .*\r?\n/m.test(text))
      return linux
    } catch (error) {
      await emulator.stop()
      throw error
    }
  }

  /**
   * Goes on until it was stopped at such a moment, and saves it there. Returns the seconds it had run since its last whole
   * line began: the clock that stands in the line was read after that, and it may take long to print.
   */
  async save(moment: Moment, output: string): Promise<number> {
    const { qmp } = this.#emulator
    const answers = async () =>
      moment.answers(await qmp.execute<string>('human-monitor-command', { 'command-line': moment.ask }))
    try {
      for (const spellings of paces[moment.pace]) await monitor(this.#emulator, spellings)
      for (const end = performance.now() + HUNT_MS; performance.now() < end; ) {
        const before = this.serial.text.length
        await this.#run()
        if (moment.stop === 'in a line') await this.serial.until(text => text.length > before)
        else {
          await this.serial.until(text => text.length > before && text.endsWith('\n'))
          await sleep(Math.random() * 2 * moment.stop.afterLineMs)
        }
        await qmp.execute('stop')
        if (moment.stepped) await this.#step(answers)
        this.serial.running = false
        if (!(await answers())) continue
        await saveMachine(qmp, output)
        const { image } = await readImage(output)
        if ('cpus' in image && moment.matches(image)) return this.serial.ran - this.serial.lineBegan
      }
      throw new Error(`no such moment came in ${HUNT_MS / 1000} s`)
    } finally {
      for (const spellings of paces.full) await monitor(this.#emulator, spellings)
    }
  }

  /** Steps it to where `arrived` answers yes, or as far as a tick of its kernel surely is. */
  async #step(arrived: () => Promise<boolean>): Promise<void> {
    const gdb = await GdbClient.attach(this.#emulator, { timers: true, interrupts: false })
    try {
      for (let steps = 0; steps < MOST_STEPS && !(await arrived()); steps++) await gdb.step()
    } finally {
      gdb.close()
    }
  }

  async #run(): Promise<void> {
    this.serial.running = true
    await this.#emulator.qmp.execute('cont')
  }

  async end(): Promise<void> {
    await this.#emulator.stop()
  }
}
