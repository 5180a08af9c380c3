/** The stock tools of the parts `clang19` and `musl`, and how to run them. */
import { spawn } from 'node:child_process'
import os from 'node:os'
import path from 'node:path'
import { ImagoError } from '../lib/errors.js'
import { requirePart } from '../lib/parts.js'
import type { IsaName } from '../model/process.js'

export interface ToolResult {
  readonly stdout: string
  readonly stderr: string
}

/** Names of a target as the tools know it. */
export const targets: Readonly<
  Record<IsaName, { triple: string; emulation: string; muslFolder: string; libgcc: string }>
> = {
  'x86-64': {
    triple: 'x86_64-linux-musl',
    emulation: 'elf_x86_64',
    muslFolder: 'x86_64-linux-musl',
    libgcc: 'usr/lib/gcc/x86_64-linux-gnu/12/libgcc.a',
  },
  aarch64: {
    triple: 'aarch64-linux-musl',
    emulation: 'aarch64linux',
    muslFolder: 'aarch64-linux-musl',
    libgcc: 'usr/lib/gcc-cross/aarch64-linux-gnu/12/libgcc.a',
  },
}

/** The programs of the toolchain, run from the cache. */
export class Tools {
  readonly clangFolder: string
  readonly muslFolder: string
  readonly #environment: NodeJS.ProcessEnv

  /** @throws HostError with the command that fetches them. */
  constructor() {
    const root = requirePart('clang19')
    this.clangFolder = path.join(root, 'usr/lib/llvm-19')
    this.muslFolder = requirePart('musl')
    this.#environment = {
      ...process.env,
      LD_LIBRARY_PATH: [path.join(root, 'usr/lib/x86_64-linux-gnu'), path.join(this.clangFolder, 'lib')].join(
        ':',
      ),
    }
  }

  headers(isa: IsaName): string {
    return path.join(this.muslFolder, 'usr/include', targets[isa].muslFolder)
  }

  libraries(isa: IsaName): string {
    return path.join(this.muslFolder, 'usr/lib', targets[isa].muslFolder)
  }

  libgcc(isa: IsaName): string {
    return path.join(this.muslFolder, targets[isa].libgcc)
  }

  /** Options for code without a C library: headers of clang's own and of the kernel. */
  freestandingOptions(isa: IsaName): string[] {
    const foreign = isa === 'aarch64' && process.arch !== 'arm64'
    const folders = foreign
      ? [path.join(requirePart('arm64-headers'), 'usr/aarch64-linux-gnu/include')]
      : [`/usr/include/${targets[isa].triple.replace('musl', 'gnu')}`, '/usr/include']
    const own = path.join(this.clangFolder, 'lib/clang/19/include')
    return [
      `--target=${targets[isa].triple}`,
      '-nostdinc',
      ...[own, ...folders].flatMap(each => ['-isystem', each]),
    ]
  }

  /** Options that make clang see musl's headers and its own, and none of the host. */
  headerOptions(isa: IsaName, overlays: readonly string[]): string[] {
    const own = path.join(this.clangFolder, 'lib/clang/19/include')
    return ['-nostdinc', ...[...overlays, this.headers(isa), own].flatMap(each => ['-isystem', each])]
  }

  /**
   * Runs a tool with `input` on its stdin.
   * @throws ToolError when it fails; what it said goes with it.
   */
  run(
    name: string,
    args: readonly string[],
    options: { input?: string; cwd?: string } = {},
  ): Promise<ToolResult> {
    return new Promise((resolve, reject) => {
      const child = spawn(path.join(this.clangFolder, 'bin', name), args, {
        env: this.#environment,
        cwd: options.cwd,
        stdio: ['pipe', 'pipe', 'pipe'],
      })
      const stdout: Buffer[] = []
      const stderr: Buffer[] = []
      child.stdout.on('data', chunk => stdout.push(chunk))
      child.stderr.on('data', chunk => stderr.push(chunk))
      child.stdin.on('error', () => {}) // a tool that fails early does not read to the end
      child.stdin.end(options.input ?? '')
      child.on('error', reject)
      child.on('close', code => {
        const result = {
          stdout: Buffer.concat(stdout).toString(),
          stderr: Buffer.concat(stderr).toString(),
        }
        if (code === 0) resolve(result)
        else reject(new ToolError(name, result.stderr.trim() || `exit code ${code}`))
      })
    })
  }
}

/** A tool said no: for clang that is the user's program, for the others it is this compiler's fault or a limit. */
export class ToolError extends ImagoError {
  readonly tool: string

  constructor(tool: string, said: string) {
    super(said.length > 4000 ? `${said.slice(0, 4000)}\n…` : said)
    this.tool = tool
  }
}

/** The results of `work`, as many at a time as there are processors. */
export async function inParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  let next = 0
  const worker = async () => {
    while (next < items.length) {
      const i = next++
      results[i] = await work(items[i]!)
    }
  }
  await Promise.all(Array.from({ length: Math.min(items.length, os.availableParallelism()) }, worker))
  return results
}
