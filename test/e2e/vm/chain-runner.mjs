/**
 * Runs a guest, and stops, saves, and restores it at random moments, each time with the next engine of a list. The
 * guest's output goes to this process's stdout; the last line on stderr says how often it was moved.
 *
 *   node chain-runner.mjs MOMENTS ENGINE:LONGEST-MS[,ENGINE:LONGEST-MS…] SEED PROGRAM ARGS…
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { MicroVm } from '../../../dist/engines/microvm/micro-vm.js'

const [moments, engineList, seed, program, ...args] = process.argv.slice(2)
const engines = engineList.split(',').map(word => {
  const [name, longest] = word.split(':')
  return { name, longest: Number(longest) }
})
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-chain-'))
const image = path.join(folder, 'image')

let state = Number(seed) | 1
/** Between 0 and 1; the same for the same seed. */
function random() {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return (state >>> 0) / 2 ** 32
}

const common = { readOnly: false, trace: false }
let vm = await MicroVm.start({
  ...common,
  engine: engines[0].name,
  start: {
    kind: 'program',
    file: program,
    argv: [program, ...args],
    environment: ['PATH=/', 'HOME=/'],
    memorySize: 64 << 20,
    rootFolder: process.cwd(),
  },
})
let moved = 0
let code
while (code === undefined) {
  const running = vm.run()
  let timer
  if (moved < Number(moments))
    timer = setTimeout(() => vm.stop(), random() * engines[moved % engines.length].longest)
  const { ended } = await running
  clearTimeout(timer)
  if (ended.kind === 'stopped') {
    await vm.save(image)
    await vm.release()
    moved++
    const start = { kind: 'image', path: image, rootFolder: undefined, files: 'refuse', ignoreCpu: false }
    vm = await MicroVm.start({ ...common, engine: engines[moved % engines.length].name, start })
  } else if (ended.kind === 'exit') code = ended.code
  else throw new Error(JSON.stringify(ended))
}
await vm.release()
fs.rmSync(folder, { recursive: true })
process.stderr.write(`moved ${moved} times\n`)
process.exitCode = code
