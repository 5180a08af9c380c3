/**
 * A program run to a place and left there, stopped, on its own (native/until): what a debugger does for a dump at a
 * chosen point. Right behind a call of imago_migrate() a program of imago cc stands at a migration point.
 */
import { spawnSync } from 'node:child_process'
import { hex } from '../lib/bytes.js'
import { ElfFile } from '../lib/elf.js'
import { ET } from '../lib/elf-header.js'
import { HostError, ImagoError, UsageError } from '../lib/errors.js'
import { nativePart } from './preload/native-parts.js'

/** `until` ends with it when the program ended before it came there. */
const ENDED_BEFORE = 3

/**
 * @param place an address (`0x…`): stopped before that instruction; or a function's name: stopped behind its first call.
 * @returns the PID.
 * @throws UsageError for a name that the program does not have.
 */
export function runUntil(file: string, words: readonly string[], place: string): number {
  const [mode, address] = /^0x[0-9a-f]+$/i.test(place)
    ? ['at', place]
    : ['after', hex(addressOfFunction(file, place))]
  const result = spawnSync(nativePart('until'), [mode, address, file, ...words.slice(1)], {
    encoding: 'utf8',
    // The PID comes on descriptor 3, which the program does not get.
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
  })
  if (result.status === 0) return Number(result.output[3])
  if (result.status === ENDED_BEFORE)
    throw new ImagoError(`the program ended before it came to ${place}`, { file })
  throw new HostError(`cannot run the program to ${place}`, {
    file,
    hint: 'ptrace must be allowed (kernel.yama.ptrace_scope, seccomp)',
  })
}

function addressOfFunction(file: string, name: string): bigint {
  const elf = ElfFile.open(file)
  try {
    if (elf.header.type === ET.DYN)
      throw new UsageError('the program is loaded at an address of its own each time', {
        file,
        hint: 'link it with -no-pie, or give the address under setarch -R',
      })
    const symbol = elf.symbols.named(name)
    if (symbol === undefined)
      throw new UsageError(`the program has no symbol ${name}`, {
        file,
        hint: 'an address works as well: --until 0x…',
      })
    return symbol.address
  } finally {
    elf.close()
  }
}
