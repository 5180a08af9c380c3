/** What the guest's own kernel says of its CPU, with the symbols that it prints itself. */
import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { cpioOf } from '../../../scripts/setup/cpio.mjs'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { linuxGuest, must, readText } from './guests.js'

const init = `#!/bin/sh
/bin/busybox mount -t proc proc /proc
/bin/busybox grep -E ' [A-Za-z] (boot_cpu_data|entry_SYSCALL_64|default_idle|native_safe_halt|_text|_end)$' /proc/kallsyms
echo READY
while :; do /bin/busybox sleep 1; done
`

test('the CPU features of a Linux guest are found in its kernel, wherever KASLR put it', context => {
  const { kernel, initrd } = linuxGuest(context)
  const folder = temporaryFolder()
  const at = (name: string) => path.join(folder, name)
  // A second archive behind the first: its files replace those of the first.
  fs.mkdirSync(at('disk'))
  fs.writeFileSync(at('disk/init'), init, { mode: 0o755 })
  fs.writeFileSync(at('initrd'), Buffer.concat([fs.readFileSync(initrd), cpioOf(at('disk'))]))
  must(
    ...['vm', 'capture', '--kernel', kernel, '--initrd', at('initrd'), '--until', 'serial:READY'],
    ...['--cpu', 'qemu64,-svm,-cx16,-hypervisor,+ssse3,+sse4.1', '--serial', at('serial'), '-o', at('linux')],
  )
  const symbols = readText(at('serial'))
    .split(/\r?\n/)
    .filter(line => /^[0-9a-f]{16} . \w+$/.test(line))
  expect(symbols.length).toBeGreaterThan(2)
  fs.writeFileSync(at('kallsyms'), `${symbols.join('\n')}\n`)
  // The same symbols as the linker has them: 32 MiB below.
  const moved = symbols.map(
    line => (BigInt(`0x${line.slice(0, 16)}`) - 0x2000000n).toString(16) + line.slice(16),
  )
  fs.writeFileSync(at('System.map'), `${moved.join('\n')}\n`)
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
