/**
 * A small x86-64 Linux for the machine tests and the demo: bookworm's kernel (its cloud kernel finds no APIC without
 * ACPI, which the other platforms lack) and an initial RAM disk with busybox whose init counts for ever and prints
 * check values (scripts/setup/amd64-linux/init).
 *
 *   vmlinuz     the kernel, as Debian built it            initrd      cpio, not compressed (gem5 wants it so)
 */
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { cpioOf } from './cpio.mjs'
import { dependenciesMatching, unpackDebian } from './debian.mjs'

const amd64 = { suite: 'bookworm', architecture: 'amd64' }

const init = fileURLToPath(new URL('./amd64-linux/init', import.meta.url))

/** Fills the folder of the part. */
export function makeAmd64Linux(into) {
  const unpacked = path.join(into, 'unpacked')
  const disk = path.join(into, 'disk')
  const [kernel] = dependenciesMatching(amd64, 'linux-image-amd64', /^linux-image-\d/)
  unpackDebian({ ...amd64, packages: [kernel, 'busybox-static'], closure: false }, unpacked)

  for (const name of ['bin', 'dev', 'proc', 'tmp']) fs.mkdirSync(path.join(disk, name), { recursive: true })
  fs.copyFileSync(path.join(unpacked, 'bin/busybox'), path.join(disk, 'bin/busybox'))
  fs.symlinkSync('busybox', path.join(disk, 'bin/sh'))
  fs.copyFileSync(init, path.join(disk, 'init'))
  for (const name of ['bin/busybox', 'init']) fs.chmodSync(path.join(disk, name), 0o755)
  fs.writeFileSync(path.join(into, 'initrd'), cpioOf(disk))

  const boot = path.join(unpacked, 'boot')
  const image = fs.readdirSync(boot).find(name => name.startsWith('vmlinuz'))
  fs.copyFileSync(path.join(boot, image), path.join(into, 'vmlinuz'))
  for (const folder of [unpacked, disk]) fs.rmSync(folder, { recursive: true })
}
