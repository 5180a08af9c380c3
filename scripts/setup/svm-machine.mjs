/**
 * An x86-64 machine with an ordinary /dev/kvm: QEMU emulates an AMD CPU with SVM, this kernel brings kvm_amd. The tests
 * run the micro-VM in it, for a `syscall` of a guest arrives at CPL 0 there, as the manuals say, and not at CPL 3 as on
 * nested PVM. Whoever boots it (test/helpers/svm-machine.ts) appends an archive of its own with what is to run.
 *
 *   vmlinuz     bookworm's cloud kernel        initrd      cpio, not compressed: busybox, modules, init
 */
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { cpioOf } from './cpio.mjs'
import { dependenciesMatching, unpackDebian } from './debian.mjs'
import { copyModules } from './kernel-modules.mjs'

const amd64 = { suite: 'bookworm', architecture: 'amd64' }

const init = fileURLToPath(new URL('./svm-machine/init', import.meta.url))

/** Fills the folder of the part. */
export function makeSvmMachine(into) {
  const unpacked = path.join(into, 'unpacked')
  const disk = path.join(into, 'disk')
  const [kernel] = dependenciesMatching(amd64, 'linux-image-cloud-amd64', /^linux-image-\d/)
  unpackDebian({ ...amd64, packages: [kernel, 'busybox-static'], closure: false }, unpacked)

  for (const name of ['bin', 'dev', 'proc', 'sys', 'tmp', 'modules', 'out'])
    fs.mkdirSync(path.join(disk, name), { recursive: true })
  fs.copyFileSync(path.join(unpacked, 'bin/busybox'), path.join(disk, 'bin/busybox'))
  fs.symlinkSync('busybox', path.join(disk, 'bin/sh'))
  fs.copyFileSync(init, path.join(disk, 'init'))
  for (const name of ['bin/busybox', 'init']) fs.chmodSync(path.join(disk, name), 0o755)
  copyModules(['kvm_amd'], path.join(unpacked, 'lib/modules'), path.join(disk, 'modules'))
  fs.writeFileSync(path.join(into, 'initrd'), cpioOf(disk))

  const boot = path.join(unpacked, 'boot')
  const image = fs.readdirSync(boot).find(name => name.startsWith('vmlinuz'))
  fs.copyFileSync(path.join(boot, image), path.join(into, 'vmlinuz'))
  for (const folder of [unpacked, disk]) fs.rmSync(folder, { recursive: true })
}
