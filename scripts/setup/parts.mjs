/**
 * The heavy parts, each a folder of the cache that is made once, under a temporary name, and renamed when whole.
 * `src/lib/parts.ts` finds them by the same names. Raise `version` when the recipe changes.
 */
import fs from 'node:fs'
import path from 'node:path'
import { makeAmd64Linux } from './amd64-linux.mjs'
import { makeArm64Machine } from './arm64-machine.mjs'
import { unpackDebian } from './debian.mjs'
import { cache, say } from './say.mjs'
import { makeSvmMachine } from './svm-machine.mjs'
import { makeClang, makeMusl } from './toolchain.mjs'
import { makeVmPrograms } from './vm-programs.mjs'

class Part {
  /** @param make fills the folder it is given. */
  constructor(name, version, summary, make) {
    Object.assign(this, { name, version, summary, make })
  }

  get folder() {
    return path.join(cache, `${this.name}-${this.version}`)
  }

  async ensure() {
    if (fs.existsSync(this.folder)) return this.folder
    say(`${this.name}: ${this.summary}`)
    const temporary = `${this.folder}.${process.pid}.tmp`
    fs.rmSync(temporary, { recursive: true, force: true })
    fs.mkdirSync(temporary, { recursive: true })
    try {
      await this.make(temporary)
      fs.renameSync(temporary, this.folder)
    } catch (error) {
      fs.rmSync(temporary, { recursive: true, force: true })
      if (!fs.existsSync(this.folder)) throw error // another set-up may have been quicker
    }
    return this.folder
  }
}

/** Another suite's criu for this host and the libraries it needs: the host's own may be too old for its kernel. */
const makeCriu = suite => into => {
  const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64'
  unpackDebian({ suite, architecture, packages: ['criu'] }, into)
  const libraries = `usr/lib/${architecture === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`
  for (const name of ['usr/share', 'etc', 'var', `${libraries}/gconv`])
    fs.rmSync(path.join(into, name), { recursive: true, force: true })
}

/** An emulator for aarch64 programs, static, so that what moved to aarch64 runs on any host. */
function makeQemuUser(into) {
  unpackDebian(
    { suite: 'bookworm', architecture: 'amd64', packages: ['qemu-user-static'], closure: false },
    into,
  )
  const folder = path.join(into, 'usr/bin')
  for (const name of fs.readdirSync(folder))
    if (name !== 'qemu-aarch64-static') fs.rmSync(path.join(folder, name))
  fs.rmSync(path.join(into, 'usr/share'), { recursive: true, force: true })
  fs.rmSync(path.join(into, 'etc'), { recursive: true, force: true })
}

/** CRIU's image tool of a suite: plain Python, which runs on the host's python3 with python3-protobuf. */
const makeCrit = suite => into =>
  unpackDebian({ suite, architecture: 'amd64', packages: ['python3-pycriu'], closure: false }, into)

/** Parts by name. Versions are read by src/lib/parts.ts from parts.json, so that both sides agree. */
const versions = JSON.parse(fs.readFileSync(new URL('./parts.json', import.meta.url), 'utf8'))
const make = (name, summary, fill) => [name, new Part(name, versions[name], summary, fill)]

export const parts = Object.fromEntries([
  make('criu', 'criu 4.1 of Debian trixie', makeCriu('trixie')),
  // 4.1 cannot dump TCP sockets on Linux 6.16 and later: SO_PASSCRED is refused there.
  make('criu-4.2', 'criu 4.2 of Debian forky', makeCriu('forky')),
  make('crit', "crit 4.1, CRIU's own image tool in Python, to compare with", makeCrit('trixie')),
  make('crit-4.2', 'crit 4.2, which names the counts of page maps differently', makeCrit('forky')),
  make('qemu-user', 'qemu-aarch64, to run aarch64 programs without a machine', makeQemuUser),
  make('arm64-headers', 'kernel headers of aarch64', into =>
    unpackDebian(
      {
        suite: 'bookworm',
        architecture: 'amd64',
        packages: ['linux-libc-dev-arm64-cross'],
        closure: false,
      },
      into,
    ),
  ),
  make('arm64-machine', 'kernel and initial RAM disk for an aarch64 machine with criu', makeArm64Machine),
  make('amd64-linux', 'x86-64 kernel and initial RAM disk of a guest that counts', makeAmd64Linux),
  make('svm-machine', 'x86-64 kernel and initial RAM disk of a machine with SVM', makeSvmMachine),
  make('clang19', 'clang, llvm and lld 19', makeClang),
  make('musl', 'musl 1.2.3 and libgcc.a for both ISAs', makeMusl),
  make('vm-programs', "Lua and SQLite from Debian's sources, static, for guests", makeVmPrograms),
])

/** What each goal needs: Debian packages on the host, and parts in the cache. */
const base = ['gcc', 'make', 'libc6-dev']
export const goals = {
  base: { packages: base, parts: [] },
  demo: { packages: [...base, 'python3'], parts: [] },
  'demo-machine': { packages: [...base, 'qemu-system-x86'], parts: ['amd64-linux'] },
  'demo-cross': {
    packages: [...base, 'qemu-system-arm'],
    parts: ['clang19', 'musl', 'qemu-user', 'arm64-headers', 'arm64-machine', 'criu-4.2'],
  },
  arm64: { packages: ['qemu-system-arm'], parts: ['arm64-machine'] },
  test: {
    packages: [
      ...base,
      'python3',
      'python3-protobuf',
      'sqlite3',
      'xz-utils',
      ...['gdb', 'binutils', 'elfutils', 'file'],
      'qemu-system-arm',
      'qemu-system-x86',
      ...['musl-tools', 'libunicorn2', 'busybox-static'],
    ],
    parts: [
      'criu',
      'criu-4.2',
      'crit',
      'crit-4.2',
      'arm64-machine',
      'amd64-linux',
      'svm-machine',
      'clang19',
      'musl',
      'qemu-user',
      'arm64-headers',
      'vm-programs',
    ],
  },
}
