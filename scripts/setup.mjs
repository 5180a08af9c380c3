#!/usr/bin/env node
/**
 * Makes a fresh clone ready, and does nothing the second time.
 *
 *   node scripts/setup.mjs              node modules, build, native parts, the Debian packages imago itself uses
 *   node scripts/setup.mjs test         the same, and what the tests need (packages, and parts in the cache)
 *   node scripts/setup.mjs PART…        named parts only (see scripts/setup/parts.mjs), e.g. criu
 *
 * Debian packages are installed when root; otherwise it says exactly what to install. Heavy parts (another
 * suite's criu, clang, kernels) are unpacked into the cache folder (.cache, or $IMAGO_CACHE), never into the host.
 * Plain JavaScript with no dependency: it runs before `npm ci`.
 */
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { installHostPackages } from './setup/debian.mjs'
import { goals, parts } from './setup/parts.mjs'
import { root, say, setQuiet } from './setup/say.mjs'

const words = process.argv.slice(2)
setQuiet(words.includes('--quiet'))
const wanted = words.filter(word => !word.startsWith('-'))
if (wanted.length === 0) wanted.push('base')

const run = (command, ...args) =>
  execFileSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })

/** Newest modification time (ms) of the files below `names`. */
function newest(...names) {
  let latest = 0
  const visit = name => {
    const stat = fs.statSync(name, { throwIfNoEntry: false })
    if (stat === undefined) return
    latest = Math.max(latest, stat.mtimeMs)
    if (stat.isDirectory())
      for (const entry of fs.readdirSync(name)) if (entry !== 'build') visit(path.join(name, entry))
  }
  for (const name of names) visit(path.join(root, name))
  return latest
}

/** Runs `build` when a source is newer than the stamp; the stamp is touched only after it succeeded. */
function whenChanged(stamp, sources, title, build) {
  const file = path.join(root, stamp)
  if ((fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0) >= newest(...sources)) return
  say(title)
  build()
  fs.mkdirSync(path.dirname(file), { recursive: true })
  fs.writeFileSync(file, '')
}

try {
  const unknown = wanted.filter(name => !(name in goals) && !(name in parts))
  if (unknown.length > 0)
    throw new Error(
      `no part or goal is called ${unknown.join(', ')}; there are: ${[...Object.keys(goals), ...Object.keys(parts)].join(', ')}`,
    )
  const goalNames = wanted.filter(name => name in goals)
  if (goalNames.length > 0) {
    installHostPackages([...new Set(goalNames.flatMap(name => goals[name].packages))])
    whenChanged('node_modules/.imago-stamp', ['package-lock.json'], 'node modules', () =>
      run('npm', 'ci', '--no-audit', '--no-fund', '--loglevel=error'),
    )
    whenChanged('dist/.imago-stamp', ['src', 'tsconfig.json', 'tsconfig.build.json'], 'build', () =>
      run('npx', '--no-install', 'tsc', '-p', 'tsconfig.build.json'),
    )
    if (fs.existsSync(path.join(root, 'native/Makefile')))
      whenChanged('native/build/.imago-stamp', ['native'], 'native parts', () =>
        run('make', '-s', '-C', 'native'),
      )
  }
  for (const name of new Set([
    ...goalNames.flatMap(goal => goals[goal].parts),
    ...wanted.filter(word => word in parts),
  ]))
    await parts[name].ensure()
  const [clang, headers] = ['clang19', 'arm64-headers'].map(name => parts[name].folder)
  if (process.arch !== 'arm64' && fs.existsSync(clang) && fs.existsSync(headers))
    whenChanged('native/build/.imago-stamp-aarch64', ['native'], 'restorer for aarch64', () =>
      run('make', '-s', '-C', 'native', 'aarch64', `CLANG19=${clang}`, `ARM64_HEADERS=${headers}`),
    )
} catch (error) {
  console.error(`setup: ${error.message}`)
  process.exit(error.exitCode ?? 1)
}
