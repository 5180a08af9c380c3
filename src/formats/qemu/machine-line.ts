/**
 * The command line of a machine, and the record of it that is kept beside a captured image: the stream itself
 * names neither processor nor devices' options, and loads only into a machine made by the same line.
 */
import fs from 'node:fs'
import { UnreadableError } from '../../lib/errors.js'

/** What distinguishes one machine from another. */
export interface MachineLine {
  /** Value of -M: `pc,hpet=off,vmport=off`. */
  readonly machine: string
  /** Value of -cpu: the features that the guest's kernel may have patched itself for. */
  readonly cpu: string
  /** Bytes of RAM. */
  readonly memory: number
  /** Shift of -icount (2^shift ns an instruction), or undefined without. */
  readonly icount?: number | undefined
  /** More words for QEMU: devices that neither gem5 nor Palacios have. */
  readonly more: readonly string[]
}

/** The machine without what gem5 and Palacios lack: HPET, VMware port, VGA, network. */
export const DEFAULT_MACHINE = 'pc,hpet=off,vmport=off'

/**
 * qemu64 without what gem5 does not offer (a running kernel has patched itself for the features that it found)
 * and with what gem5 has beyond it.
 */
export const DEFAULT_CPU =
  'qemu64,-svm,-cx16,-x2apic,-hypervisor,-popcnt,-sse4.1,-sse4.2,-ssse3,-kvm,-tsc-deadline,-lahf-lm,+rdtscp,+mmxext'

/** The machine that translates well; its memory is large enough for a small Linux. */
export const DEFAULT_LINE: MachineLine = {
  machine: DEFAULT_MACHINE,
  cpu: DEFAULT_CPU,
  memory: 128 * 2 ** 20,
  more: [],
}

/** Kernel parameters that keep Linux away from what the other platforms lack, its clock on the TSC, and its timer unchecked: emulated on a busy host it is late. */
export const DEFAULT_APPEND =
  'console=ttyS0 acpi=off nohpet clocksource=tsc tsc=reliable pci=off mitigations=off nmi_watchdog=0 no_timer_check panic=-1'

/** A program for the machine to start with. */
export interface BootOptions {
  readonly kernel?: string | undefined
  readonly initrd?: string | undefined
  readonly append?: string | undefined
}

/** Words for qemu-system-x86_64, without serial line, monitor and incoming stream. */
export function machineWords(line: MachineLine, boot: BootOptions = {}): string[] {
  return [
    ['-M', line.machine, '-cpu', line.cpu, '-smp', '1', '-m', `${line.memory / 1024}k`],
    ['-nodefaults', '-display', 'none', '-no-user-config', '-no-reboot'],
    // The option ROM that speeds up the APIC's task priority would tie the stream to addresses in the guest.
    ['-global', 'apic-common.vapic=off', '-rtc', 'base=2026-01-01,clock=vm'],
    line.icount === undefined ? [] : ['-icount', `shift=${line.icount},sleep=off`, '-seed', '1'],
    line.more.some(word => /^-(vga|device)$/.test(word)) ? [] : ['-vga', 'none'],
    line.more.some(word => /^-(nic|net|netdev)$/.test(word)) ? [] : ['-nic', 'none'],
    line.more,
    boot.kernel === undefined ? [] : ['-kernel', boot.kernel],
    boot.initrd === undefined ? [] : ['-initrd', boot.initrd],
    boot.append === undefined ? [] : ['-append', boot.append],
  ].flat()
}

/** The record beside an image. */
export function recordPath(image: string): string {
  return `${image}.json`
}

/** @param facts what only the running machine could tell, such as the rate of its TSC. */
export function writeRecord(
  image: string,
  line: MachineLine,
  facts: { readonly qemu: string; readonly tscRate: number | undefined },
): void {
  fs.writeFileSync(recordPath(image), `${JSON.stringify({ schema: 1, ...line, ...facts }, undefined, 2)}\n`)
}

/** The record beside `image`, or undefined when there is none. @throws UnreadableError when it is not one of ours. */
export function readRecord(image: string): MachineLine | undefined {
  const file = recordPath(image)
  if (!fs.existsSync(file)) return undefined
  try {
    const value = JSON.parse(fs.readFileSync(file, 'utf8')) as Record<string, unknown>
    const { schema, machine, cpu, memory, icount, more } = value
    if (schema !== 1 || typeof machine !== 'string' || typeof cpu !== 'string')
      throw new Error('fields are missing')
    if (!Number.isSafeInteger(memory) || (icount !== undefined && !Number.isSafeInteger(icount)))
      throw new Error('memory or icount is no number')
    if (!Array.isArray(more) || more.some(word => typeof word !== 'string'))
      throw new Error("'more' is no list of words")
    return {
      machine,
      cpu,
      memory: memory as number,
      icount: icount as number | undefined,
      more: more as string[],
    }
  } catch (error) {
    throw new UnreadableError("not a record of 'imago vm capture'", {
      file,
      found: (error as Error).message,
      hint: 'remove it, and say --memory, --cpu and the rest again',
    })
  }
}
