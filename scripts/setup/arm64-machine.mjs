/**
 * The aarch64 machine: trixie's cloud kernel for arm64 and an initial RAM disk with busybox, criu and an agent,
 * all from Debian packages, without running one arm64 instruction. `src/engines/arm64-machine/` boots it.
 *
 *   Image       the kernel            initrd.gz   busybox, tar, criu, their libraries, modules, init, agent
 */
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import zlib from 'node:zlib'
import { cpioOf } from './cpio.mjs'
import { dependenciesMatching, unpackDebian } from './debian.mjs'
import { copyModules } from './kernel-modules.mjs'

const arm64 = { suite: 'trixie', architecture: 'arm64' }

/** criu stops at once without nf_tables; the *_diag modules are how it asks for sockets. */
const modules = `virtio_net virtio_blk qemu_fw_cfg nf_tables unix_diag inet_diag tcp_diag udp_diag raw_diag
  netlink_diag af_packet_diag tun veth`.split(/\s+/)

const scripts = fileURLToPath(new URL('./arm64-machine/', import.meta.url))

/** Fills the folder of the part. */
export function makeArm64Machine(into) {
  const unpacked = path.join(into, 'unpacked')
  const disk = path.join(into, 'disk')
  unpackDebian({ ...arm64, packages: ['criu', 'busybox-static', 'tar'] }, unpacked)
  const [kernel] = dependenciesMatching(arm64, 'linux-image-cloud-arm64', /^linux-image-\d/)
  unpackDebian({ ...arm64, packages: [kernel], closure: false }, unpacked)

  for (const name of ['dev', 'proc', 'sys', 'tmp', 'run', 'root', 'etc', 'var', 'mnt', 'modules'])
    fs.mkdirSync(path.join(disk, name), { recursive: true })
  const library = 'usr/lib/aarch64-linux-gnu'
  for (const name of ['usr/bin', 'usr/sbin', library])
    fs.mkdirSync(path.join(disk, name), { recursive: true })
  for (const name of ['bin', 'sbin', 'lib']) fs.symlinkSync(`usr/${name}`, path.join(disk, name))
  const copy = name => fs.cpSync(path.join(unpacked, name), path.join(disk, name), { verbatimSymlinks: true })
  // busybox's tar knows no holes.
  for (const name of ['usr/bin/busybox', 'usr/bin/tar', 'usr/sbin/criu']) copy(name)
  for (const name of fs.readdirSync(path.join(unpacked, library)))
    if (/\.so(\.|$)/.test(name)) copy(path.join(library, name))
  // The kernel looks for the program interpreter under this name.
  fs.symlinkSync('aarch64-linux-gnu/ld-linux-aarch64.so.1', path.join(disk, 'usr/lib/ld-linux-aarch64.so.1'))
  fs.symlinkSync('busybox', path.join(disk, 'usr/bin/sh'))
  copyModules(modules, path.join(unpacked, 'usr/lib/modules'), path.join(disk, 'modules'))
  for (const name of ['init', 'agent']) {
    fs.copyFileSync(path.join(scripts, name), path.join(disk, name))
    fs.chmodSync(path.join(disk, name), 0o755)
  }
  fs.writeFileSync(path.join(into, 'initrd.gz'), zlib.gzipSync(cpioOf(disk), { level: 6 }))

  const boot = path.join(unpacked, 'boot')
  const image = fs.readdirSync(boot).find(name => name.startsWith('vmlinuz'))
  fs.copyFileSync(path.join(boot, image), path.join(into, 'Image'))
  for (const folder of [unpacked, disk]) fs.rmSync(folder, { recursive: true })
}
