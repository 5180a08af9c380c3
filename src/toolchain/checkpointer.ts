/**
 * The checkpointer of libckpt.so as an object for programs of `imago cc`: the same source (native/preload), which asks for no C
 * library, with program.c in the place of library.c. Its names are made local, so that a program may have a `fail` of its own.
 */
import fs from 'node:fs'
import path from 'node:path'
import { packageRoot } from '../lib/parts.js'
import type { IsaName } from '../model/process.js'
import { type Tools, targets } from './tools.js'

const preloadFolder = path.join(packageRoot, 'native/preload')
const FOR_THE_LIBRARY = 'library.c'

/** Makes FOLDER/checkpointer.o. @throws HostError without the kernel's headers of the ISA, ToolError. */
export async function makeCheckpointer(tools: Tools, isa: IsaName, folder: string): Promise<void> {
  const sources = fs
    .readdirSync(preloadFolder)
    .filter(name => name.endsWith('.c') && name !== FOR_THE_LIBRARY)
    .sort()
    .map(name => path.join(preloadFolder, name))
  for (const name of ['bytes.c', 'crc32.c']) sources.push(path.join(packageRoot, 'native/common', name))
  const parts = path.join(folder, 'checkpointer')
  fs.mkdirSync(parts)
  const objects = sources.map(source => path.join(parts, path.basename(source).replace(/c$/, 'o')))
  for (const [i, source] of sources.entries())
    await tools.run('clang', [
      ...['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-ffreestanding', '-fno-builtin', '-fno-pic'],
      ...[
        '-fno-stack-protector',
        '-fno-strict-aliasing',
        '-fvisibility=hidden',
        '-fno-asynchronous-unwind-tables',
      ],
      ...['-fno-omit-frame-pointer', '-ffunction-sections', '-fdata-sections'],
      ...(isa === 'aarch64' ? ['-mno-outline-atomics'] : []),
      ...tools.freestandingOptions(isa),
      ...['-c', source, '-o', objects[i]!],
    ])
  const output = path.join(folder, 'checkpointer.o')
  await tools.run('ld.lld', ['-m', targets[isa].emulation, '-r', '-o', output, ...objects])
  await tools.run('llvm-objcopy', ['--localize-hidden', output])
  fs.rmSync(parts, { recursive: true })
}
