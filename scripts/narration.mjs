/** How a demo speaks: numbered steps, the commands that a user could type, and what they print. */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { styleText } from 'node:util'
import { root } from './setup/say.mjs'

export const imago = path.join(root, 'imago')
const colour = process.stdout.isTTY && !process.env.NO_COLOR
export const style = (format, text) => (colour ? styleText(format, text) : text)

/** A folder for this demo, gone at its end. */
export function demoFolder() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-demo-'))
  process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
  process.on('SIGINT', () => process.exit(130))
  return folder
}

let steps = 0
export const step = text => console.log(`\n${style(['bold', 'cyan'], `${++steps}.`)} ${style('bold', text)}`)

export const command = text => console.log(style('dim', `   $ ${text}`))

/** At most `lines` lines of `text`. */
export function show(text, lines = Number.POSITIVE_INFINITY) {
  const all = text.trimEnd().split('\n')
  for (const line of all.slice(0, lines)) console.log(`     ${line.trimEnd()}`)
  if (all.length > lines) console.log(style('dim', `     … ${all.length - lines} more lines`))
}

export function fail(text) {
  console.error(`\n${style('red', '✗ the demo failed:')} ${text}`)
  process.exit(1)
}

/** Ends the demo well. */
export function done(text) {
  console.log(`\n${style(['bold', 'green'], '✓')} ${text}`)
  process.exit(0)
}

/** Runs `./imago words…` in `folder`, to its end; returns what it printed. The demo fails with it. */
export function run(folder, words) {
  const { status, stdout, stderr } = spawnSync(imago, words, {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, ...(colour ? { FORCE_COLOR: '1' } : {}) },
  })
  if (status !== 0) fail(`imago ${words[0]} ended with ${status}:\n${stderr || stdout}`)
  return { stdout, stderr }
}
