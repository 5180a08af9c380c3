/** Which restorer wakes an image up on this host: its own, or, for a program of aarch64 on another machine, one under an emulator. */
import fs from 'node:fs'
import path from 'node:path'
import { isas } from '../../isa/isas.js'
import { HostError } from '../../lib/errors.js'
import { requirePart } from '../../lib/parts.js'
import type { IsaName } from '../../model/process.js'
import { nativePart } from './native-parts.js'

export interface Restorer {
  readonly command: string
  /** Before its own options. */
  readonly words: readonly string[]
  /** What the user should know. */
  readonly remark?: string
}

const hostIsa: IsaName = process.arch === 'arm64' ? 'aarch64' : 'x86-64'

/** e_machine of the image, a core. */
function isaOf(image: string): IsaName | undefined {
  const head = Buffer.alloc(20)
  const fd = fs.openSync(image, 'r')
  try {
    fs.readSync(fd, head, 0, head.length, 0)
  } finally {
    fs.closeSync(fd)
  }
  const machine = head.readUInt16LE(18)
  return Object.values(isas).find(isa => isa.elfMachine === machine)?.name
}

/** @throws HostError when neither this machine nor an emulator runs programs of the image's ISA. */
export function restorerFor(image: string): Restorer {
  const isa = isaOf(image) ?? hostIsa // what is no image at all is for the restorer to refuse
  if (isa === hostIsa) return { command: nativePart('myrestart'), words: [] }
  if (isa !== 'aarch64')
    throw new HostError(`the image is of a program for ${isa}`, {
      file: image,
      hint: `imago retarget ${path.basename(image)} --to ${hostIsa}, when imago cc compiled it`,
    })
  const emulator = path.join(requirePart('qemu-user'), 'usr/bin/qemu-aarch64-static')
  return {
    command: emulator,
    words: [nativePart('myrestart-aarch64')],
    remark: `this machine is of ${hostIsa}: the program goes on under qemu-aarch64`,
  }
}
