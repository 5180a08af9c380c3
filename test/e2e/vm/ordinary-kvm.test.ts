/**
 * The micro-VM on an ordinary KVM, where a `syscall` of the guest arrives at CPL 0 (this host may have nested PVM, where
 * it stays at CPL 3). One boot of a machine with SVM runs everything; the tests look at what came of it.
 */

import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { packageRoot } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { imago, type Outcome } from '../../helpers/imago.js'
import { missingForSvmMachine, runInSvmMachine } from '../../helpers/svm-machine.js'
import { sharedFolder } from '../../helpers/temporary-folder.js'
import { guest, missingForGuests } from './guests.js'

const stopAndSave = fileURLToPath(new URL('stop-and-save.mjs', import.meta.url))
const dist = path.join(packageRoot, 'dist')
const missing = missingForSvmMachine() ?? missingForGuests()
const programs = ['boot.bin', 'caramba-seed', 'hello', 'caramba', 'fault', 'signals', 'sort']
const SORTED = '150000'

/** Each step leaves its output and exit code below /out. */
const script = `
step() { name=$1; shift; echo "$name"; timeout -s KILL 240 "$@" > /out/$name.stdout 2> /out/$name.stderr < /dev/null; echo $? > /out/$name.code; }
vm=/imago/imago
cd /guests
cat /sys/module/kvm_amd/parameters/npt
step hello $vm vm run /guests/hello a --flag b
step fault $vm vm run /guests/fault
step signals $vm vm run -q /guests/signals
mkdir /tmp/seed
cd /tmp/seed
step saved $vm vm run --trace -o /tmp/caramba.vm /guests/caramba
cp ay_caramba.txt /out/half.txt
step restored $vm vm restore --trace /tmp/caramba.vm
cp ay_caramba.txt /out/whole.txt
step leaving $vm vm run -q --with-files -o /out/caramba.vm /guests/caramba
mkdir /tmp/arrived
step arrived $vm vm restore -q --root /tmp/arrived --files restore-content /here/caramba.vm
cp /tmp/arrived/ay_caramba.txt /out/arrived.txt
step sort-arrived $vm vm restore -q --root /tmp /here/sort.vm
for after in 300 150 50 20; do
  step sort-leaving node /stop-and-save.mjs /imago/dist $after /out/sort.vm /guests/sort ${SORTED}
  [ -e /out/sort.vm ] && break
done
mkdir /tmp/booted
cd /tmp/booted
step booted $vm vm run --trace --seed-image -o /out/booted.vm --boot /guests/boot.bin --program /guests/caramba-seed
cp ay_caramba.txt /out/booted.txt
cp vm_image.sav /out/booted.sav
step booted-on $vm vm restore -q vm_image.sav
cp ay_caramba.txt /out/booted-on.txt
printf '\\364' > halt.bin
step boot-astray $vm vm run --boot halt.bin --program /guests/caramba-seed
step sort-back $vm vm restore -q /out/sort.vm
`

const native = (name: string, ...args: string[]) =>
  spawnSync(guest(name), args, { encoding: 'latin1', maxBuffer: 1 << 28 })

let out: string
let folder: string | undefined
/** The output of the sort up to where it was stopped here. */
let sortedHere: string
let console: string

/** What a step left, when its exit code is the one that it should be. */
function step(name: string, code = 0): Outcome {
  const read = (ending: string) => fs.readFileSync(path.join(out, `${name}.${ending}`), 'latin1')
  const outcome = { code: Number(read('code')), stdout: read('stdout'), stderr: read('stderr') }
  expect(outcome.code, outcome.stderr).toBe(code)
  return outcome
}

beforeAll(async () => {
  if (missing !== undefined) return
  folder = sharedFolder()
  const here = path.join(folder, 'here')
  fs.mkdirSync(here)
  imago(['vm', 'run', '-q', '--with-files', '-o', path.join(here, 'caramba.vm'), guest('caramba')], {
    cwd: here,
  })
  for (const after of [40, 20, 10, 5]) {
    const words = [stopAndSave, dist, String(after), path.join(here, 'sort.vm'), guest('sort'), SORTED]
    const saved = spawnSync(process.execPath, words, { encoding: 'latin1', cwd: here })
    sortedHere = saved.stdout
    if (saved.status === 0) break
  }
  console = await runInSvmMachine({
    script,
    folder,
    silence: 300_000,
    files: {
      'stop-and-save.mjs': stopAndSave,
      here,
      ...Object.fromEntries(programs.map(name => [`guests/${name}`, guest(name)])),
    },
  })
  out = path.join(folder, 'out')
}, 1_200_000)

afterAll(() => {
  if (folder !== undefined) fs.rmSync(folder, { recursive: true, force: true })
})

test('on ordinary KVM the exit code and the arguments of a program are its own', ({ skip }) => {
  skip(missing !== undefined, missing)
  expect(step('hello', 7).stdout).toBe('/guests/hello a --flag b\n')
  expect(console).toContain('job ended with 0')
})

test('on ordinary KVM the flow of the ScratchVM goes on after a restore', ({ skip }) => {
  skip(missing !== undefined, missing)
  const saved = step('saved')
  expect(saved.stderr).toContain('VM_APP - OPEN ./ay_caramba.txt 32834 511 - return 3\n')
  expect(saved.stderr).toContain('RAX: 190\n')
  expect(fs.readFileSync(path.join(out, 'half.txt'), 'utf8')).toBe('Hello World !!!\n')
  const restored = step('restored')
  expect(restored.stdout).toBe('File written successfully.\n\0')
  expect(restored.stderr).toContain('VM_APP - CLOSE 3 - return 0\n')
  expect(fs.readFileSync(path.join(out, 'whole.txt'), 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
})

test('on ordinary KVM what mprotect and munmap took away faults at once, and a fault is reported', ({
  skip,
}) => {
  skip(missing !== undefined, missing)
  const there = step('fault', 139)
  const here = imago(['vm', 'run', guest('fault')])
  expect(there).toEqual(here)
  expect(there.stderr).toContain('write to 0x10 (not mapped)')
  expect(there.stdout).toBe(native('fault').stdout)
})

test('on ordinary KVM signal handlers, masks and faults behave as on Linux', ({ skip }) => {
  skip(missing !== undefined, missing)
  expect(step('signals', 128 + 15).stdout).toBe(native('signals').stdout)
})

test('an image saved by the KVM of this host goes on on ordinary KVM', ({ skip }) => {
  skip(missing !== undefined, missing)
  expect(step('arrived').stdout).toBe('File written successfully.\n\0')
  expect(fs.readFileSync(path.join(out, 'arrived.txt'), 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
  expect(sortedHere + step('sort-arrived').stdout).toBe(native('sort', SORTED).stdout)
})

test('an image saved on ordinary KVM in the middle of a sort goes on there and on the KVM of this host', ({
  skip,
}) => {
  skip(missing !== undefined, missing)
  const before = step('sort-leaving')
  const whole = native('sort', SORTED).stdout
  expect(before.stdout + step('sort-back').stdout).toBe(whole)
  const cwd = path.join(out, 'root')
  fs.mkdirSync(cwd)
  const back = imago(['vm', 'restore', '-q', '--root', cwd, path.join(out, 'sort.vm')])
  expect(back).toMatchObject({ code: 0, stderr: '' })
  expect(before.stdout + back.stdout).toBe(whole)

  const words = ['vm', 'restore', '-q', '--root', cwd, '--files', 'restore-content']
  expect(imago([...words, path.join(out, 'caramba.vm')])).toMatchObject({ code: 0 })
  expect(fs.readFileSync(path.join(cwd, 'ay_caramba.txt'), 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
})

test("on ordinary KVM the ScratchVM's boot comes from real mode to the program, which is saved and goes on", ({
  skip,
}) => {
  skip(missing !== undefined, missing)
  const booted = step('booted')
  expect(booted.stderr).toContain('VM_APP - OPEN ./ay_caramba.txt 32834 511 - return 3\n')
  expect(booted.stderr).toContain('RIP: 80a1\n')
  expect(fs.readFileSync(path.join(out, 'booted.txt'), 'utf8')).toBe('Hello World !!!\n')
  expect(step('booted-on').stdout).toBe('File written successfully.\n\0')
  expect(fs.readFileSync(path.join(out, 'booted-on.txt'), 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
  // Its own image goes on here, without a boot.
  const cwd = path.join(out, 'booted-here')
  fs.mkdirSync(cwd)
  fs.copyFileSync(path.join(out, 'booted.txt'), path.join(cwd, 'ay_caramba.txt'))
  const words = ['vm', 'restore', '-q', '--files', 'reopen', '--root', cwd, path.join(out, 'booted.vm')]
  expect(imago(words)).toMatchObject({ code: 0 })
  expect(fs.readFileSync(path.join(cwd, 'ay_caramba.txt'), 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
  expect(step('boot-astray', 1).stderr).toContain('the bootstrap halted outside of its system call handler')
})
