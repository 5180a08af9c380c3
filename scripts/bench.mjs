#!/usr/bin/env node
/** Runs measurements: `npm run bench -- checkpoint` runs bench/checkpoint.mjs; without a name it lists them. */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { root } from './setup/say.mjs'

const folder = path.join(root, 'bench')
const names = fs
  .readdirSync(folder)
  .filter(name => name.endsWith('.mjs'))
  .map(name => name.slice(0, -4))
const [name, ...words] = process.argv.slice(2)
if (name === undefined || !names.includes(name)) {
  console.log(`usage: npm run bench -- NAME [options]\n\n${names.map(each => `  ${each}`).join('\n')}`)
  process.exit(name === undefined ? 0 : 2)
}
process.exit(
  spawnSync(process.execPath, [path.join(folder, `${name}.mjs`), ...words], { stdio: 'inherit' }).status ?? 1,
)
