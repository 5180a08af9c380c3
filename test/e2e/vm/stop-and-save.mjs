/**
 * Runs a guest that takes a while, stops it in the middle, saves it, and ends. The guest's output so far goes to
 * stdout; the exit code is 3 when the guest had ended before.
 *
 *   node stop-and-save.mjs DIST AFTER-MS IMAGE PROGRAM ARGS…
 */
import path from 'node:path'

const [dist, after, image, program, ...args] = process.argv.slice(2)
const { MicroVm } = await import(path.join(dist, 'engines/microvm/micro-vm.js'))
const vm = await MicroVm.start({
  engine: 'kvm',
  readOnly: false,
  trace: false,
  start: {
    kind: 'program',
    file: program,
    argv: [program, ...args],
    environment: ['PATH=/'],
    memorySize: 64 << 20,
    rootFolder: process.cwd(),
  },
})
const timer = setTimeout(() => vm.stop(), Number(after))
const { ended } = await vm.run()
clearTimeout(timer)
if (ended.kind === 'stopped') await vm.save(image)
await vm.release()
process.exitCode = ended.kind === 'stopped' ? 0 : 3
