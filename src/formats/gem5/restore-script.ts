/**
 * The gem5 configuration that a checkpoint is restored with: same RAM, CPU clock = rate of the guest's TSC, APIC timer
 * at the rate that the guest has calibrated, no disks. `GEM5_ROOT=… gem5.fast -d out restore.py`.
 * API: gem5 v24 configs/common/FSConfig.py (makeX86System). The layout of 2011 restores by gem5's own fs.py.
 */
import type { Gem5Era } from './blank-checkpoint.js'

export interface RestoreConfiguration {
  readonly ramBytes: number
  /** RAM from 4 GiB on. */
  readonly highRamBytes: number
  readonly cpuClock: number
  readonly apicClock: number
  readonly era: Gem5Era
}

/** The file beside a checkpoint that says how to go on with it: a script for v24, steps for 2011. */
export function restoreScript(configuration: RestoreConfiguration): { name: string; content: string } {
  return configuration.era === '2011'
    ? { name: 'restore.txt', content: steps2011(configuration) }
    : { name: 'restore.py', content: script(configuration) }
}

function script({ ramBytes, highRamBytes, cpuClock, apicClock }: RestoreConfiguration): string {
  return `# Restores this checkpoint:  GEM5_ROOT=/path/to/gem5 gem5.fast -d out restore.py [--cpu timing]
# Written by imago for gem5 v24. The checkpoint is the folder that holds this file.
import argparse, os, struct, sys, tempfile
import m5
from m5.objects import *

HERE = os.path.dirname(os.path.abspath(__file__))
RAM_BYTES = ${ramBytes + highRamBytes}
CPU_CLOCK_HZ = ${Math.round(cpuClock)}      # the rate of the guest's time-stamp counter
${apicRate(cpuClock, apicClock)}

options = argparse.ArgumentParser()
options.add_argument('--cpu', choices=['atomic', 'timing', 'o3'], default='atomic')
options.add_argument('--ticks', type=int, default=m5.MaxTick, help='stop after so many picoseconds')
options.add_argument('--checkpoint', help='write a checkpoint into this folder when it stops')
options.add_argument('--kernel', help='vmlinux, for symbols only')
options.add_argument('--from', dest='source', default=HERE, help='another checkpoint of the same machine')
options = options.parse_args()

m5.util.addToPath(os.path.join(os.environ['GEM5_ROOT'], 'configs'))
from common.FSConfig import makeX86System
from common.Benchmarks import SysConfig


def placeholder_kernel():
    """gem5 wants a kernel even where the checkpoint holds the memory: an ELF file of one empty page."""
    header = b'\\x7fELF' + bytes([2, 1, 1]) + bytes(9)
    header += struct.pack('<HHIQQQIHHHHHH', 2, 62, 1, 0x100000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack('<IIQQQQQQ', 1, 5, 0x1000, 0x100000, 0x100000, 16, 16, 0x1000)
    file = tempfile.NamedTemporaryFile(suffix='.elf', delete=False)
    file.write((header + segment).ljust(0x1000, b'\\0') + b'\\xf4' * 16)
    file.close()
    return file.name


models = {'atomic': X86AtomicSimpleCPU, 'timing': X86TimingSimpleCPU, 'o3': X86O3CPU}
mode = 'atomic' if options.cpu == 'atomic' else 'timing'
workload = X86FsWorkload(object_file=options.kernel or placeholder_kernel())
system = makeX86System(mode, 1, SysConfig(mem='%dB' % RAM_BYTES), workload=workload)
system.voltage_domain = VoltageDomain(voltage='1V')
system.clk_domain = SrcClockDomain(clock='1GHz', voltage_domain=system.voltage_domain)
system.cpu_voltage_domain = VoltageDomain()
system.cpu_clk_domain = SrcClockDomain(clock='%dHz' % CPU_CLOCK_HZ, voltage_domain=system.cpu_voltage_domain)
system.cpu = models[options.cpu](clk_domain=system.cpu_clk_domain, cpu_id=0)
system.cpu.createThreads()
system.cpu.createInterruptController()
system.cpu.connectBus(system.membus)
for controller in system.cpu.interrupts:
    if APIC_DIVIDER:
        controller.clk_domain.clk_divider = APIC_DIVIDER
    else:
        apic_clock = SrcClockDomain(clock='%dHz' % APIC_CLOCK_HZ, voltage_domain=system.voltage_domain)
        controller.clk_domain = DerivedClockDomain(clk_domain=apic_clock, clk_divider=1)
system.iobridge = Bridge(delay='50ns', ranges=system.mem_ranges)
system.iobridge.cpu_side_port = system.iobus.mem_side_ports
system.iobridge.mem_side_port = system.membus.cpu_side_ports
system.mem_ctrls = [SimpleMemory(range=each, latency='1ns') for each in system.mem_ranges]
for controller in system.mem_ctrls:
    controller.port = system.membus.mem_side_ports

root = Root(full_system=True, system=system)
m5.instantiate(options.source)
print('imago: restored at tick', m5.curTick())
end = m5.simulate(options.ticks)
print('imago: stopped at tick', m5.curTick(), 'because:', end.getCause())
if options.checkpoint:
    m5.checkpoint(options.checkpoint)
`
}

/** The clock of the local APIC's timer: the CPU's, divided, or one of its own where no divider comes near it. */
function apicRate(cpuClock: number, apicClock: number): string {
  const divider = Math.max(1, Math.round(cpuClock / apicClock))
  const fits = Math.abs(cpuClock / divider - apicClock) < apicClock * DIVIDER_TOLERANCE
  return fits
    ? `APIC_DIVIDER = ${divider}   # CPU clock / clock of the local APIC's timer`
    : `APIC_DIVIDER = None  # the clock of the local APIC's timer is no whole part of the CPU's
APIC_CLOCK_HZ = ${Math.round(apicClock)}`
}
const DIVIDER_TOLERANCE = 0.0001

function steps2011({ ramBytes, cpuClock, apicClock }: RestoreConfiguration): string {
  return `Restores this checkpoint with gem5 of 2011 (changeset 8592), as its fs.py numbers checkpoints:

  cp -r THIS_FOLDER m5out/cpt.1
  ./build/X86_FS/m5.opt -d m5out configs/example/fs.py --kernel=KERNEL -r 1
  nc localhost 3456

The configuration must have ${ramBytes} bytes of RAM, a CPU clock of ${cpuClock} Hz (the rate of the guest's
time-stamp counter) and an APIC clock of that divided by ${cpuClock / apicClock}.
`
}

/** The configuration for a process (SE mode). `binary` must be there: gem5 takes the symbols and the workload from it. */
export function restoreProcessScript(configuration: {
  readonly ramBytes: number
  readonly binary: string
  readonly clock: number
}): string {
  return `# Restores this process:  gem5.fast -d out restore.py [--cpu o3]
# Written by imago for gem5 v24. The checkpoint is the folder that holds this file.
import argparse, os
import m5
from m5.objects import *

HERE = os.path.dirname(os.path.abspath(__file__))
options = argparse.ArgumentParser()
options.add_argument('--cpu', choices=['atomic', 'timing', 'o3'], default='atomic')
options.add_argument('--ticks', type=int, default=m5.MaxTick, help='stop after so many picoseconds')
options.add_argument('--binary', default=${JSON.stringify(configuration.binary)})
options = options.parse_args()

models = {'atomic': X86AtomicSimpleCPU, 'timing': X86TimingSimpleCPU, 'o3': X86O3CPU}
system = System(mem_mode='atomic' if options.cpu == 'atomic' else 'timing')
system.clk_domain = SrcClockDomain(clock='${configuration.clock}Hz', voltage_domain=VoltageDomain())
system.mem_ranges = [AddrRange('${configuration.ramBytes}B')]
system.membus = SystemXBar()
system.system_port = system.membus.cpu_side_ports
system.mem = SimpleMemory(range=system.mem_ranges[0], latency='1ns')
system.mem.port = system.membus.mem_side_ports
system.workload = SEWorkload.init_compatible(options.binary)
system.cpu = models[options.cpu]()
system.cpu.workload = Process(cmd=[options.binary])
system.cpu.createThreads()
system.cpu.createInterruptController()
system.cpu.connectBus(system.membus)

root = Root(full_system=False, system=system)
m5.instantiate(HERE)
print('imago: restored at tick', m5.curTick())
end = m5.simulate(options.ticks)
print('imago: stopped at tick', m5.curTick(), 'because:', end.getCause())
`
}
