import fs from 'node:fs'
import path from 'node:path'
import { gunzipSync } from 'node:zlib'
import { BufferSource } from '../../src/lib/byte-source.js'
import { packageRoot } from '../../src/lib/parts.js'

/** Real migration streams: two guests of 32 MB with VGA, one without, one of 128 MB, all of QEMU 7.2; one of QEMU 10.0. */
export const qemuSamples = ['timer', 'busy', 'timer-min', 'tmpl128', 'timer-10'] as const
export type QemuSample = (typeof qemuSamples)[number]

/** The bytes of a sample stream. */
export function qemuSample(name: QemuSample): Buffer {
  return gunzipSync(fs.readFileSync(path.join(packageRoot, 'test/data/qemu', `${name}.qemu.gz`)))
}

export function qemuSampleSource(name: QemuSample): BufferSource {
  return new BufferSource(qemuSample(name))
}
