#!/usr/bin/env node
/**
 * The aarch64 test machine at hand: one for each user and checkout, under QEMU, that stays until it is stopped.
 *
 *   npm run -s arm64 -- start               boots it (about 10 s), when there is none
 *   npm run -s arm64 -- exec uname -m       runs a command line in it, as root: its output, its exit code; -i: with this input
 *   npm run -s arm64 -- put FILE PLACE      copies a file or folder into it
 *   npm run -s arm64 -- get PLACE FILE      copies a file or folder out of it
 *   npm run -s arm64 -- stop                ends it; nothing of it is kept
 */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

const root = path.resolve(import.meta.dirname, '..')
const { quote } = await import(path.join(root, 'dist/engines/arm64-machine/agent.js'))
const { Arm64Machine } = await import(path.join(root, 'dist/engines/arm64-machine/machine.js'))
const { ImagoError, UsageError } = await import(path.join(root, 'dist/lib/errors.js'))

const checkout = createHash('sha256').update(root).digest('hex').slice(0, 8)
const folder = path.join(os.tmpdir(), `imago-arm64-${os.userInfo().uid}-${checkout}`)

function machine() {
  const found = Arm64Machine.find(folder)
  if (found === undefined) throw new UsageError('no aarch64 machine runs', { hint: 'npm run arm64 -- start' })
  return found
}

const isFolder = async (guest, place) => (await guest.run(`test -d ${quote(place)}`)).code === 0

const verbs = {
  async start() {
    const running = Arm64Machine.find(folder)
    if (running !== undefined) return console.log(`runs already, pid ${running.pid}`)
    fs.rmSync(folder, { recursive: true, force: true }) // of one that was killed
    const begun = performance.now()
    const { pid } = await Arm64Machine.boot({ stayIn: folder })
    console.log(`up after ${((performance.now() - begun) / 1000).toFixed(1)} s, pid ${pid}`)
  },

  async exec(...words) {
    const input = words[0] === '-i' ? fs.readFileSync(0) : undefined
    if (input !== undefined) words.shift()
    if (words.length === 0) throw new UsageError('no command')
    const { code, stdout, stderr } = await machine().run(words.join(' '), { input, timeout: 3_600_000 })
    process.stdout.write(stdout)
    process.stderr.write(stderr)
    process.exitCode = code
  },

  async put(source, target) {
    if (source === undefined || target === undefined) throw new UsageError('put FILE PLACE')
    const stat = fs.statSync(source, { throwIfNoEntry: false })
    if (stat === undefined) throw new UsageError(`no file is called '${source}'`)
    const guest = machine()
    if (stat.isDirectory()) return guest.putFolder(source, target)
    const place = (await isFolder(guest, target)) ? path.posix.join(target, path.basename(source)) : target
    await guest.putFile(source, place)
  },

  async get(source, target = path.basename(source ?? '')) {
    if (source === undefined) throw new UsageError('get PLACE [FILE]')
    const guest = machine()
    if (await isFolder(guest, source)) return guest.getFolder(source, target)
    const isPlace = fs.statSync(target, { throwIfNoEntry: false })?.isDirectory()
    await guest.getFile(source, isPlace ? path.join(target, path.basename(source)) : target)
  },

  async stop() {
    await Arm64Machine.find(folder)?.stop()
    fs.rmSync(folder, { recursive: true, force: true })
  },
}

const [name, ...words] = process.argv.slice(2)
try {
  const verb = Object.hasOwn(verbs, name ?? '') ? verbs[name] : undefined
  if (verb === undefined)
    throw new UsageError(name === undefined ? 'no verb' : `no verb is called '${name}'`, {
      expected: Object.keys(verbs).join(', '),
    })
  await verb(...words)
} catch (error) {
  if (!(error instanceof ImagoError)) throw error
  console.error(`arm64: ${error.describe()}`)
  process.exitCode = error.exitCode
}
