/** Puts content that an image holds in the place of a file of the guest. */
import fs from 'node:fs'
import { LossError } from '../../lib/errors.js'
import { hostCall, NR } from './libc.js'
import { O, type OpenFiles } from './open-files.js'

/** A file below the root gets a new content, whole or not at all. `target` is absolute within the root. */
export function replaceContent(
  files: OpenFiles,
  target: string,
  name: string,
  mode: number,
  content: Iterable<Uint8Array>,
): void {
  if (files.readOnly)
    throw new LossError('contents cannot be restored below a read-only root', { file: name })
  const fail = (found: string): never => {
    throw new LossError(`the content of ${name} cannot be restored`, {
      file: files.rootFolder + target,
      found,
    })
  }
  const temporary = `${target}.imago-restore`
  const fd = files.resolve(temporary, O.CREAT | O.WRONLY | O.TRUNC | O.NOFOLLOW, mode)
  if (fd < 0) fail(`it cannot be written (errno ${-fd})`)
  try {
    for (const block of content)
      for (let done = 0; done < block.length; ) done += fs.writeSync(fd, block, done)
    fs.fsyncSync(fd)
  } finally {
    hostCall(NR.close, fd)
  }
  const result = files.withParent(temporary, (from, name) =>
    files.withParent(target, (to, newName) => hostCall(264, from, name, to, newName)),
  )
  if (result < 0) fail(`it cannot be put in place (errno ${-result})`)
}
