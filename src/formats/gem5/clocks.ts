/**
 * The clocks of a machine in gem5: that of the CPU, which is the rate of its TSC, and that of the APIC's timer. A checkpoint
 * does not say them: imago adds a section, and gem5's configuration stands in a `config.ini` beside the checkpoint.
 *
 *   [system.cpu_clk_domain]              clock=PERIOD in ps
 *   [system.cpu.interrupts.clk_domain]   clk_domain=NAME of the clock that is divided, clk_divider=N
 */
import fs from 'node:fs'
import path from 'node:path'
import type { MachineImage } from '../../model/machine.js'
import { CheckpointText } from './checkpoint-text.js'
import type { Gem5Timing } from './table.js'

/** The section that imago adds, and gem5 skips: what the configuration must say so that time runs right. */
export const OWN_SECTION = 'imago'
export const DEFAULT_CLOCK = 1_000_000_000

export interface KnownClocks extends Gem5Timing {
  /** Where the CPU clock comes from. */
  readonly source: 'imago' | '--clock' | 'config.ini' | 'assumed'
}

/** Clocks: from our own section, else from gem5's config.ini beside the checkpoint, else 1 GHz. */
export function clocksOf(text: CheckpointText, folder: string, clock: number | undefined): KnownClocks {
  const own = Number(text.get(OWN_SECTION, 'cpu_clock_hz'))
  if (own > 0)
    return {
      cpuClock: clock ?? own,
      apicClock: Number(text.get(OWN_SECTION, 'apic_clock_hz')) || undefined,
      source: clock === undefined ? 'imago' : '--clock',
    }
  const configuration = [folder, path.dirname(path.resolve(folder))]
    .map(each => path.join(each, 'config.ini'))
    .find(file => fs.existsSync(file))
  const config = configuration === undefined ? undefined : CheckpointText.read(configuration)
  /** Hz of a domain, whose clock is given as its period in ps. */
  const rateOf = (domain: string | undefined) => {
    const period = Number(domain && config?.get(domain, 'clock')?.split(' ')[0])
    return period > 0 ? 1e12 / period : undefined
  }
  const configured = rateOf('system.cpu_clk_domain')
  const apicDomain = 'system.cpu.interrupts.clk_domain'
  const divider = Number(config?.get(apicDomain, 'clk_divider'))
  const divided = rateOf(config?.get(apicDomain, 'clk_domain')) ?? configured
  return {
    cpuClock: clock ?? configured ?? DEFAULT_CLOCK,
    apicClock: divided !== undefined && divider > 0 ? divided / divider : undefined,
    source: clock !== undefined ? '--clock' : configured === undefined ? 'assumed' : 'config.ini',
  }
}

/** A guess at the CPU clock is one at the TSC as well, which gem5 counts from tick 0. */
export function guesses({ source }: KnownClocks): Pick<MachineImage, 'workedOut'> {
  if (source !== 'assumed') return {}
  const from = 'with no config.ini to say it (--clock)'
  return {
    workedOut: new Map([
      ['cpu.tscRate', from],
      ['cpu.tsc', from],
    ]),
  }
}

/** v24 can be configured with any; 2011 has no other rate than a divider of the CPU's clock. */
export function apicClockOf({ cpuClock, apicClock = cpuClock }: Gem5Timing, divided: boolean): number {
  return divided ? cpuClock / Math.max(1, Math.round(cpuClock / apicClock)) : apicClock
}

/** For whoever reads the checkpoint again. */
export function setClocks(text: CheckpointText, { cpuClock, apicClock }: Gem5Timing): void {
  text.set(OWN_SECTION, 'cpu_clock_hz', String(cpuClock))
  text.set(OWN_SECTION, 'apic_clock_hz', String(apicClock))
}
