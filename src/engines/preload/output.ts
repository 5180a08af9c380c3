/** Where images go: looked at before a program is started, or frozen, for nothing. */
import fs from 'node:fs'
import path from 'node:path'
import { UsageError } from '../../lib/errors.js'

/**
 * The absolute path of an image to be. `root` leads to the files as the program sees them.
 * @throws UsageError when no image can have this name.
 */
export function imagePath(name: string, root = ''): string {
  if (name === '') throw new UsageError('an image needs a name')
  if (name.includes('\n')) throw new UsageError('the name of an image cannot hold a newline')
  const absolute = path.resolve(name)
  if (kindOf(root + absolute) === 'folder')
    throw new UsageError('a folder cannot be replaced by an image', {
      file: absolute,
      hint: 'give the name of a file in it',
    })
  const folder = path.dirname(absolute)
  // A pattern is known only when the program has its pid.
  if (!folder.includes('%') && ['nothing', 'file'].includes(kindOf(root + folder)))
    throw new UsageError('no such folder for the image', { file: folder, hint: `mkdir -p '${folder}'` })
  return absolute
}

function kindOf(file: string): 'folder' | 'file' | 'nothing' | 'unknown' {
  try {
    return fs.statSync(file).isDirectory() ? 'folder' : 'file'
  } catch (error) {
    return ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '') ? 'nothing' : 'unknown'
  }
}
