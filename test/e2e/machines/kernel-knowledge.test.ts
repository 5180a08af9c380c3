/** What the guest's own kernel says of its CPU and its clock, with the symbols that it prints itself. */
import fs from 'node:fs'
import path from 'node:path'
import { expect, type TestContext, test } from 'vitest'
import { cpioOf } from '../../../scripts/setup/cpio.mjs'
import { withImages } from '../../../src/formats/registry.js'
import type { Cpu } from '../../../src/model/machine.js'
import { imago, must } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { linuxGuest, readText, resumedWords } from './guests.js'

const init = `#!/bin/sh
/bin/busybox mount -t proc proc /proc
/bin/busybox grep -E ' [A-Za-z] (boot_cpu_data|entry_SYSCALL_64|tsc_khz|tk_core|clocksource_tsc|_text|_end)$' /proc/kallsyms
echo READY
while :; do read up idle < /proc/uptime; echo "UP $up"; /bin/busybox sleep 0.2; done
`

interface SymbolsGuest {
  readonly image: string
  /** Its /proc/kallsyms, as far as imago asks. */
  readonly kallsyms: string
  /** What it printed. */
  readonly serial: string
}

/** A Linux that has printed the symbols of its kernel, and then UP and its uptime again and again. */
function symbolsGuest(context: TestContext, folder: string, until: string, cpu: string[]): SymbolsGuest {
  const { kernel, initrd } = linuxGuest(context)
  const at = (name: string) => path.join(folder, name)
  // A second archive behind the first: its files replace those of the first.
  fs.mkdirSync(at('disk'))
  fs.writeFileSync(at('disk/init'), init, { mode: 0o755 })
  fs.writeFileSync(at('initrd'), Buffer.concat([fs.readFileSync(initrd), cpioOf(at('disk'))]))
  must(
    ...['vm', 'capture', '--kernel', kernel, '--initrd', at('initrd'), '--until', until],
    ...[...cpu, '--serial', at('serial'), '-o', at('linux')],
  )
  const serial = readText(at('serial'))
  const symbols = serial.split(/\r?\n/).filter(line => /^[0-9a-f]{16} . \w+$/.test(line))
  expect(symbols.length).toBeGreaterThan(5)
  fs.writeFileSync(at('kallsyms'), `${symbols.join('\n')}\n`)
  return { image: at('linux'), kallsyms: at('kallsyms'), serial }
}

test('the CPU features of a Linux guest are found in its kernel, wherever KASLR put it', context => {
  const folder = temporaryFolder()
  const at = (name: string) => path.join(folder, name)
  const cpu = ['--cpu', 'qemu64,-svm,-cx16,-hypervisor,+ssse3,+sse4.1']
  const { kallsyms } = symbolsGuest(context, folder, 'serial:READY', cpu)
  // The same symbols as the linker has them: 32 MiB below.
  const moved = readText(kallsyms).replace(/^[0-9a-f]{16}/gm, address =>
    (BigInt(`0x${address}`) - 0x2000000n).toString(16),
  )
  fs.writeFileSync(at('System.map'), moved)
  // Nothing but the kernel itself knows.
  fs.rmSync(at('linux.json'))

  for (const file of ['kallsyms', 'System.map']) {
    const { code, stderr } = imago([
      'convert',
      at('linux'),
      '--to',
      'gem5',
      '--vmlinux',
      at(file),
      '-o',
      at('out'),
    ])
    expect(stderr).toMatch(/gem5's CPU lacks what the guest may use: sse4\.1$/m)
    expect(code).toBe(4)
    const page = JSON.parse(must('inspect', at('linux'), '--vmlinux', at(file), '--json'))
    expect(page.cpuFeatures).toContain('sse4.1')
    expect(page.cpuFeatures).not.toContain('cx16')
  }
  must('vm', 'template', '--memory', '128M', '-o', at('template'))
  const back = must(
    ...['convert', at('linux'), '--to', 'qemu', '--template', at('template')],
    ...['--vmlinux', at('System.map'), '-o', at('back')],
  )
  expect(JSON.parse(readText(at('back.json'))).cpu).toContain('+sse4.1')
  expect(back).toContain('sse4.1')
})

test('a Linux out of Palacios, which saves no clock, goes on from the time that its own kernel has', async context => {
  const folder = temporaryFolder()
  const at = (name: string) => path.join(folder, name)
  const { image, kallsyms, serial } = symbolsGuest(context, folder, 'serial:UP 3', ['--icount'])
  const before = await machineOf(image)
  must('convert', image, '--to', 'palacios', '-o', at('v3'))
  // As Palacios itself writes it.
  fs.rmSync(at('v3/imago'))
  expect((await machineOf(at('v3'))).tsc).toBeUndefined()
  const told = must(
    ...['convert', at('v3'), '--to', 'gem5', '--raw-ram', '--vmlinux', kallsyms, '-o', at('gem5')],
  )
  expect(told).toMatch(/tsc: .*the last that the guest’s kernel has seen/)
  const after = await machineOf(at('gem5'))
  const rate = before.tscRate!
  // The kernel measures it.
  expect(Math.abs(after.tscRate! / rate - 1)).toBeLessThan(0.001)
  const ahead = Number(after.tsc! - before.tsc!) / rate
  expect(ahead).toBeLessThan(0.02)
  expect(ahead).toBeGreaterThan(-1)

  const upTimes = (text: string) => [...text.matchAll(/^UP (\d+\.\d+)\r?$/gm)].map(([, time]) => Number(time))
  must('convert', at('v3'), '--to', 'qemu', '--vmlinux', kallsyms, '-o', at('back'))
  // Its TSC goes at the rate that it has measured: the machine that goes on counts instructions, too.
  expect((await machineOf(at('back'))).tscRate).toBe(rate)
  const [next] = upTimes(await resumedWords(at('back'), /UP \d+\.\d+\r?\n.*UP \d+\.\d+\r?\n/s)).slice(-1)
  const last = upTimes(serial).at(-1)!
  expect(next! - last).toBeGreaterThan(0)
  expect(next! - last).toBeLessThan(5)
})

function machineOf(image: string): Promise<Cpu> {
  return withImages([image], read => {
    if (read.kind !== 'machine') throw new Error('no machine')
    return read.image.cpus[0]!
  })
}
