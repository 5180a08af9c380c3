/** Files on their way into and out of the machine: GNU tar on both sides, because it leaves out holes and makes them again. */
import { spawnSync } from 'node:child_process'
import { ImagoError } from '../../lib/errors.js'
import { quote } from './agent.js'

/** This host's tar, with what it writes; `input` is what it reads. @throws ImagoError when it fails. */
export function tar(words: readonly string[], input?: Uint8Array): Buffer {
  const { status, stdout, stderr, error } = spawnSync('tar', words, { input, maxBuffer: 2 ** 31 })
  if (error !== undefined || status !== 0)
    throw new ImagoError(`tar failed: ${error?.message ?? stderr.toString().trim()}`)
  return stdout
}

/** The guest's: under its mere name the shell runs busybox's. */
export const guestTar = '/usr/bin/tar'

/** The guest's command that unpacks its input. */
export const unpacks = (folder: string) => `${guestTar} -C ${quote(folder)} --no-same-owner -xf -`
