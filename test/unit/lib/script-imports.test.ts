import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { packageRoot } from '../../../src/lib/parts.js'

/** `import { a, b } from '…/dist/x.js'`, and the same of `await import(…)` and `await load(…)`. */
const IMPORT =
  /(?:import|const) \{([^}]*)\} (?:from |= await (?:import|load)\(.*?)'(?:[^']*dist\/)?((?:cli|engines|formats|lib|retarget|toolchain)\/[^']+)\.js'/g

test.each([
  'bench',
  'scripts',
  'test/e2e/vm',
])('nothing that %s/*.mjs takes from the build is missing there', folder => {
  const names = fs.readdirSync(path.join(packageRoot, folder)).filter(name => name.endsWith('.mjs'))
  const imports = names.flatMap(name =>
    [...fs.readFileSync(path.join(packageRoot, folder, name), 'utf8').matchAll(IMPORT)].flatMap(
      ([, list, module]) => list!.split(',').map(each => ({ name, module, wanted: each.trim() })),
    ),
  )
  expect(imports.length).toBeGreaterThan(0)
  const missing = imports.filter(({ module, wanted }) => {
    const source = fs.readFileSync(path.join(packageRoot, 'src', `${module}.ts`), 'utf8')
    return !new RegExp(`^export .*\\b${wanted}\\b`, 'm').test(source)
  })
  expect(missing).toEqual([])
})
