/** Programs of this host by name, as a shell looks for them. */
import fs from 'node:fs'
import path from 'node:path'

/** The executable files of this name in the folders of PATH, then in `more`, in order. */
export function programsNamed(name: string, more: readonly string[] = []): string[] {
  const folders = [...(process.env.PATH ?? '/usr/bin:/bin').split(':'), ...more]
  return folders.map(folder => path.resolve(folder || '.', name)).filter(isProgram)
}

export function isProgram(file: string): boolean {
  try {
    fs.accessSync(file, fs.constants.X_OK)
    return fs.statSync(file).isFile()
  } catch {
    return false
  }
}
