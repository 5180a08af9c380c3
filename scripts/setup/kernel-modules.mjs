/** Modules of an unpacked kernel package → a folder of an initial RAM disk. */
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'

/** Copies the modules of these names, what they depend on first, uncompressed; `order` lists them as they must be loaded. */
export function copyModules(names, from, to) {
  const files = new Map(
    fs
      .readdirSync(from, { recursive: true })
      .map(name => [/([^/]+)\.ko(\.xz)?$/.exec(name)?.[1].replaceAll('-', '_'), path.join(from, name)])
      .filter(([module]) => module),
  )
  const order = []
  const add = module => {
    const file = files.get(module)
    if (file === undefined || order.includes(module)) return // not a module: built into the kernel
    const content = file.endsWith('.xz')
      ? execFileSync('xz', ['-dc', file], { maxBuffer: 1 << 28 })
      : fs.readFileSync(file)
    const dependencies = /\0depends=([^\0]*)\0/.exec(content.toString('latin1'))?.[1] ?? ''
    for (const dependency of dependencies.split(',').filter(Boolean)) add(dependency.replaceAll('-', '_'))
    order.push(module)
    fs.writeFileSync(path.join(to, `${module}.ko`), content)
  }
  names.forEach(add)
  fs.writeFileSync(path.join(to, 'order'), `${order.join('\n')}\n`)
}
