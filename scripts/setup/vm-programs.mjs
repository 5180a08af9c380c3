/**
 * Programs that people really run, as guests of the micro-VM: Lua 5.4 and SQLite, from Debian's source packages, static,
 * with musl, for the x86-64 baseline.
 *
 *   lua      the interpreter            sqlite3      the shell, without threads, loaded extensions and line editing
 *
 * SQLite's sources are many files which a Tcl program makes into one, so Tcl is unpacked for it, too. musl comes from
 * Debian's package and is found by the paths given to gcc: nothing of the host but gcc is used.
 */
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { unpackDebian, unpackDebianSources } from './debian.mjs'

const suite = 'bookworm'

/** Fills the folder of the part. */
export function makeVmPrograms(into) {
  const at = (...names) => path.join(into, 'build', ...names)
  unpackDebian({ suite, architecture: 'amd64', packages: ['musl-dev'], closure: false }, at('musl'))
  unpackDebian({ suite, architecture: 'amd64', packages: ['tcl8.6', 'libtcl8.6'], closure: false }, at('tcl'))
  unpackDebianSources({ suite, packages: ['lua5.4', 'sqlite3'] }, at('sources'))
  const sources = pattern =>
    at(
      'sources',
      fs.readdirSync(at('sources')).find(name => pattern.test(name)),
    )

  const lua = path.join(sources(/^lua/), 'src')
  const luaFiles = fs.readdirSync(lua).filter(name => name.endsWith('.c') && name !== 'luac.c')
  compile(at('musl'), path.join(into, 'lua'), luaFiles, ['-std=gnu99', '-DLUA_USE_POSIX'], lua)

  const run = (command, ...words) =>
    execFileSync(command, words, { cwd: at('sqlite'), stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 28 })
  fs.mkdirSync(at('sqlite'))
  const tclsh = at('tclsh')
  fs.writeFileSync(
    tclsh,
    `#!/bin/sh
export LD_LIBRARY_PATH='${at('tcl/usr/lib/x86_64-linux-gnu')}' TCL_LIBRARY='${at('tcl/usr/share/tcltk/tcl8.6')}'
exec '${at('tcl/usr/bin/tclsh8.6')}' "$@"
`,
    { mode: 0o755 },
  )
  run(path.join(sources(/^sqlite/), 'configure'), '--disable-tcl', '--disable-readline')
  run('make', `TCLSH_CMD=${tclsh}`, 'sqlite3.c', 'shell.c')
  const options = ['-DSQLITE_THREADSAFE=0', '-DSQLITE_OMIT_LOAD_EXTENSION']
  compile(at('musl'), path.join(into, 'sqlite3'), ['shell.c', 'sqlite3.c'], options, at('sqlite'))
  fs.rmSync(at(), { recursive: true })
}

function compile(musl, output, files, options, cwd) {
  const gcc = (...words) =>
    execFileSync('gcc', words, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  const library = name => path.join(musl, 'usr/lib/x86_64-linux-musl', name)
  const headers = [path.join(musl, 'usr/include/x86_64-linux-musl'), gcc('-print-file-name=include').trim()]
  gcc(
    ...[
      '-O2',
      '-w',
      '-march=x86-64',
      '-fno-pie',
      '-fno-stack-protector',
      '-fno-omit-frame-pointer',
      ...options,
    ],
    ...['-nostdinc', ...headers.flatMap(folder => ['-isystem', folder]), '-o', output],
    ...['-nostdlib', '-static', '-no-pie', library('crt1.o'), library('crti.o'), ...files],
    ...[library('libc.a'), gcc('-print-libgcc-file-name').trim(), library('crtn.o')],
  )
}
