/** The real samples under test/data, unpacked where they are stored gzipped. */
import fs from 'node:fs'
import path from 'node:path'
import zlib from 'node:zlib'

const data = path.resolve(import.meta.dirname, '../../data')

/** Folder of a gem5 checkpoint that gem5 itself wrote: timer, busy, se, skel128. */
export const gem5Sample = (name: string): string => path.join(data, 'machine', `${name}.gem5`)

/** A stream that QEMU itself wrote, unpacked into `folder`. */
export function qemuSample(name: string, folder: string): string {
  const file = path.join(folder, `${name}.qemu`)
  fs.writeFileSync(file, zlib.gunzipSync(fs.readFileSync(path.join(data, 'qemu', `${name}.qemu.gz`))))
  return file
}

export const palaciosSample = path.join(data, 'machine/palacios-synthetic')
/** The RAM that belongs to it. */
export function palaciosMemory(folder: string): string {
  const file = path.join(folder, 'memory')
  fs.writeFileSync(file, zlib.gunzipSync(fs.readFileSync(`${palaciosSample}.mem.gz`)))
  return file
}
