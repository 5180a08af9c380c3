/**
 * Where the heavy parts lie that set-up unpacked into the cache (`.cache`, or $IMAGO_CACHE): another suite's
 * criu, clang, kernels. `scripts/setup/parts.mjs` makes them; `scripts/setup/parts.json` names their versions.
 */
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { HostError } from './errors.js'

/** Root of the checkout or of the installed package: `src/lib` and `dist/lib` lie equally deep. */
export const packageRoot = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')

/** Where the heavy parts lie: IMAGO_CACHE, or `.cache` of the checkout. */
export function cacheFolder(): string {
  return path.resolve(process.env.IMAGO_CACHE ?? path.join(packageRoot, '.cache'))
}

/** The folder of a part, or undefined when set-up has not made it. */
export function findPart(name: string): string | undefined {
  const versions = JSON.parse(
    fs.readFileSync(path.join(packageRoot, 'scripts/setup/parts.json'), 'utf8'),
  ) as Record<string, number>
  const folder = path.join(cacheFolder(), `${name}-${versions[name]}`)
  return fs.existsSync(folder) ? folder : undefined
}

/** @throws HostError with the command that makes the part. */
export function requirePart(name: string): string {
  const folder = findPart(name)
  if (folder === undefined)
    throw new HostError(`'${name}' is not in the cache yet`, { hint: `npm run setup -- ${name}` })
  return folder
}
