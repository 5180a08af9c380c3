/**
 * The micro-VM: start to first system call, restore to first system call for 64 MiB and 2 GiB, system calls a second,
 * computing against native. Medians; the engine's classes are used directly, in this thread.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { KvmCpu } from '../dist/engines/kvm/cpu.js'
import { initialState } from '../dist/engines/microvm/cpu.js'
import { newProcess } from '../dist/engines/microvm/guest.js'
import { GuestMemory } from '../dist/engines/microvm/guest-memory.js'
import { loadProgram } from '../dist/engines/microvm/load-program.js'
import { hostSide, Monitor } from '../dist/engines/microvm/monitor.js'
import { OpenFiles } from '../dist/engines/microvm/open-files.js'
import { restoreGuest } from '../dist/engines/microvm/restore.js'
import { saveGuest } from '../dist/engines/microvm/save.js'

const here = path.dirname(fileURLToPath(import.meta.url))
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-bench-'))
const median = values => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]
const show = (what, value, unit) => console.log(`${what.padEnd(44)} ${value.toPrecision(3)} ${unit}`)

execFileSync('make', ['-s', '-C', path.join(here, '../workloads/vm'), `OUT=${folder}`])
const shared = new Int32Array(new SharedArrayBuffer(64))
const host = hostSide(shared, -1)

function boot(program, memorySize, args = []) {
  const memory = GuestMemory.create(memorySize)
  const cpu = new KvmCpu(memory)
  const files = new OpenFiles(folder, false)
  files.connectStandardStreams()
  const process = newProcess(program)
  const { entry, stackPointer } = loadProgram(memory, process, program, [program, ...args], [])
  cpu.writeState(initialState(entry, stackPointer))
  return { memory, cpu, files, process, host }
}
function release(guest) {
  guest.files.release()
  guest.cpu.release()
  guest.memory.release()
}

const caramba = path.join(folder, 'caramba')
const starts = []
for (let i = 0; i < 15; i++) {
  const began = performance.now()
  const guest = boot(caramba, 64 << 20)
  guest.cpu.run()
  starts.push(performance.now() - began)
  release(guest)
}
show('start to first system call, 64 MiB', median(starts), 'ms')

for (const [name, size] of [
  ['64 MiB', 64 << 20],
  ['2 GiB', 2 ** 31],
]) {
  const guest = boot(caramba, size)
  new Monitor(guest, shared).run()
  const image = path.join(folder, `image-${name}`)
  saveGuest(guest, image, { withFiles: false, now: 0n })
  release(guest)
  const times = []
  for (let i = 0; i < 15; i++) {
    const began = performance.now()
    const restored = restoreGuest(image, memory => new KvmCpu(memory), host, {
      rootFolder: folder,
      readOnly: false,
      files: 'reopen',
      ignoreCpu: false,
    })
    restored.cpu.run()
    times.push(performance.now() - began)
    release(restored)
  }
  show(`restore to first system call, ${name}`, median(times), 'ms')
}

const calls = path.join(folder, 'calls')
fs.writeFileSync(
  `${calls}.c`,
  'int main(void){for(int i=0;i<20000;i++){long r=39;__asm__ volatile("syscall":"+a"(r)::"rcx","r11","memory");}return 0;}',
)
execFileSync('musl-gcc', ['-static', '-O2', '-o', calls, `${calls}.c`])
const guest = boot(calls, 64 << 20)
const began = performance.now()
new Monitor(guest, shared).run()
show('system calls', 20000 / (performance.now() - began), 'thousand/s')
release(guest)

const sort = path.join(folder, 'sort')
const ratio = []
for (let i = 0; i < 3; i++) {
  const a = performance.now()
  spawnSync(sort, ['1000000'])
  const b = performance.now()
  const sorter = boot(sort, 64 << 20, ['1000000'])
  sorter.files.get(1).hostFd = fs.openSync('/dev/null', 'w')
  const c = performance.now()
  new Monitor(sorter, shared).run()
  ratio.push((performance.now() - c) / (b - a))
  release(sorter)
}
show('sort of a million, guest against native', median(ratio), 'times')
fs.rmSync(folder, { recursive: true })
