/**
 * imago retarget: time against the size of memory, for images of both formats. One program (of imago cc) that fills so many MiB is
 * frozen by criu, or freezes itself into a core, and is retargeted; the peer is a plain copy of the image, which is what any tool must
 * do that moves bytes. A core is one file, so that its memory is copied (or shared, where the file system can); in place it stays.
 *   npm run bench -- retarget        needs root and criu; IMAGO_FULL=1: up to 2 GiB
 */
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { median, root, temporaryFolder } from './helpers/measuring.mjs'

const load = name => import(path.join(root, 'dist', name))
const { readImage } = await load('formats/registry.js')
const { ProgramBinary } = await load('retarget/program-binary.js')
const { retarget } = await load('retarget/retarget.js')
const { readProgram } = await load('toolchain/program.js')
const { retargetImage } = await load('retarget/retarget-image.js')
const engines = await Promise.all(['criu', 'preload'].map(name => load(`engines/${name}/engine.js`)))

const folder = temporaryFolder()
const source = `
#include <stdio.h>
#include <stdlib.h>
#include <imago.h>
unsigned long *memory; /* known everywhere, or the compiler would leave out what nobody reads */
int main(int argc, char **argv) {
  size_t words = (size_t)atol(argv[1]) << 17;
  unsigned long x = 1;
  memory = malloc(words * 8);
  for (size_t i = 0; i < words; i++) memory[i] = x = x * 6364136223846793005UL + 1;
  puts("ready"); fflush(stdout);
  for (;;) imago_migrate();
}
`
const sizes = process.env.IMAGO_FULL === '1' ? [16, 64, 256, 1024, 2048] : [16, 64, 256]
const milliseconds = async work => {
  const start = performance.now()
  await work()
  return performance.now() - start
}
fs.writeFileSync(path.join(folder, 'fill.c'), source)
const program = path.join(folder, 'fill')
execFileSync(path.join(root, 'imago'), ['cc', '-O2', `${program}.c`, '-o', program])
/** The program that is measured; when the measurement fails in the middle it ends, too. */
let child
process.on('exit', () => child?.kill('SIGKILL'))
console.log('format  MiB    transform   whole retarget (image written)   in place     cp of the image')
for (const { engine } of engines)
  for (const size of sizes) {
    const out = path.join(folder, 'out')
    const fd = fs.openSync(out, 'w')
    child = spawn(`${program}_x86-64`, [String(size)], { detached: true, stdio: ['ignore', fd, fd] })
    fs.closeSync(fd)
    while (!fs.readFileSync(out, 'utf8').includes('ready')) await new Promise(done => setTimeout(done, 50))
    const image = path.join(folder, 'image')
    await engine.checkpoint(child.pid, { output: image, stop: true })
    const description = readProgram(`${program}.imago.json`)
    const binaries = ['x86-64', 'aarch64'].map(isa => ProgramBinary.open(description, isa))
    const { image: frozen } = await readImage(image)
    const input = { image: frozen, program: description, source: binaries[0], target: binaries[1] }
    const pure = []
    for (let i = 0; i < 9; i++) pure.push(await milliseconds(() => retarget(input)))
    const target = path.join(folder, 'target')
    const whole = []
    const copies = []
    for (let i = 0; i < 3; i++) {
      fs.rmSync(target, { recursive: true, force: true })
      whole.push(await milliseconds(() => retargetImage({ source: image, target, to: 'aarch64' })))
      fs.rmSync(target, { recursive: true, force: true })
      copies.push(await milliseconds(() => execFileSync('cp', ['-r', '--reflink=never', image, target])))
    }
    fs.rmSync(target, { recursive: true, force: true })
    const inPlace = []
    if (engine.formats[0] === 'core')
      for (const to of ['aarch64', 'x86-64', 'aarch64'])
        inPlace.push(await milliseconds(() => retargetImage({ source: image, to })))
    fs.rmSync(image, { recursive: true, force: true })
    const text = value => (value === undefined ? '' : `${value.toFixed(1)} ms`)
    console.log(
      `${engine.formats[0].padEnd(7)} ${String(size).padEnd(6)} ${text(median(pure)).padEnd(11)} ${text(median(whole)).padEnd(32)} ${text(median(inPlace)).padEnd(12)} ${text(median(copies))}`,
    )
  }
