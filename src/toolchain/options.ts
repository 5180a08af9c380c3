/** The words of `imago cc`: those of a C compiler, as a Makefile uses them, and a few of our own. */
import { UsageError } from '../lib/errors.js'

export interface CompilerOptions {
  /** `link` makes a program, `object` (-c) IR in a .o, `preprocess` (-E, -M, -fsyntax-only) what clang says. */
  readonly mode: 'link' | 'object' | 'preprocess'
  readonly output: string | undefined
  readonly sources: readonly string[]
  /** `.o`, `.bc`, `.ll` with IR, and archives of them. */
  readonly objects: readonly string[]
  /** For clang, as they are. */
  readonly frontEnd: readonly string[]
  /** Folders and names of libraries (-L, -l). */
  readonly libraryFolders: readonly string[]
  readonly libraries: readonly string[]
  readonly migrateAt: readonly string[]
  readonly map: boolean
  readonly verbose: boolean
}

const WITH_VALUE = new Set([
  ...['-D', '-U', '-I', '-include', '-isystem', '-iquote', '-idirafter', '-imacros', '-std', '-x'],
  ...['-MF', '-MT', '-MQ', '-Xclang', '-Xpreprocessor'],
])
/** What has no meaning here, or is decided by the method. */
const IGNORED =
  /^(-g.*|-s|-static|-pthread|-pipe|-rdynamic|-no-pie|-fno-pie|-fno-pic|-fno-PIC|-fno-PIE|-fcommon|-Wl,.*|-ffunction-sections|-fdata-sections|-fno-plt|-fno-semantic-interposition|-m64|-mcmodel=\w+|-mtune=\S+)$/
const REFUSED: ReadonlyArray<readonly [RegExp, string]> = [
  [/^-m(?!64$|cmodel=|tune=)/, 'the program is compiled for two ISAs, so options of one processor cannot be'],
  [
    /^(-shared|-fpic|-fPIC|-fpie|-fPIE|-pie|-static-pie)$/,
    'programs that migrate are static, at fixed addresses',
  ],
  [
    /^(-Ofast|-ffast-math|-funsafe-math-optimizations|-ffp-contract=(?!off).*)$/,
    'results would differ between the ISAs',
  ],
  [/^-fsanitize/, 'sanitizers are not supported'],
  [/^(-S|-save-temps)/, 'there are two assembler texts; look at the binaries with llvm-objdump'],
  [
    /^-fopenmp/,
    'no OpenMP runtime is linked; without the option its pragmas mean nothing and one thread does the work',
  ],
  [/^-flto/, 'the whole program is compiled at once anyway'],
  [
    /^(-pg$|--?coverage|-fprofile-|-ftest-coverage|-finstrument-functions|-fxray)/,
    'no runtime is linked that would collect what the code counts',
  ],
  [/^[^-].*\.[sS]$/, 'assembler is of one ISA'],
  [/^[^-].*\.(cc|cpp|cxx|C|m)$/, 'it compiles C'],
]
/** Libraries that are part of musl's libc.a, or of the compiler. */
const IN_LIBC = new Set(['c', 'm', 'pthread', 'rt', 'dl', 'util', 'resolv', 'crypt', 'gcc', 'gcc_s'])

/** @throws UsageError with the reason, for what the method cannot honour. */
export function parseCompilerOptions(words: readonly string[]): CompilerOptions {
  let mode: CompilerOptions['mode'] = 'link'
  let output: string | undefined
  let [map, verbose] = [false, false]
  const [sources, objects, frontEnd, libraryFolders, libraries, migrateAt]: string[][] = [
    [],
    [],
    [],
    [],
    [],
    [],
  ]
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!
    const value = () => {
      const next = words[++i]
      if (next === undefined) throw new UsageError(`${word} needs a value`)
      return next
    }
    const refused = REFUSED.find(([pattern]) => pattern.test(word))
    if (refused) throw new UsageError(`imago cc does not take ${word}: ${refused[1]}`)
    if (word === '-c') mode = 'object'
    else if (word === '-E') mode = 'preprocess'
    else if (/^(-MM?|-fsyntax-only)$/.test(word)) {
      mode = 'preprocess'
      frontEnd!.push(word)
    } else if (word === '-o') output = value()
    else if (word === '--map') map = true
    else if (word === '-v' || word === '--verbose') verbose = true
    else if (word === '--migrate-at') migrateAt!.push(...split(value()))
    else if (word.startsWith('--migrate-at=')) migrateAt!.push(...split(word.slice(13)))
    else if (word === '-L') libraryFolders!.push(value())
    else if (word.startsWith('-L')) libraryFolders!.push(word.slice(2))
    else if (word === '-l') libraries!.push(value())
    else if (word.startsWith('-l')) libraries!.push(word.slice(2))
    else if (WITH_VALUE.has(word)) frontEnd!.push(word, value())
    else if (IGNORED.test(word)) continue
    else if (word.startsWith('-')) frontEnd!.push(word)
    else if (/\.(o|bc|ll|a)$/.test(word)) objects!.push(word)
    else sources!.push(word)
  }
  if (sources!.length + objects!.length === 0) throw new UsageError('no input files')
  if (mode === 'object' && output !== undefined && sources!.length > 1)
    throw new UsageError('-o names one file, and -c makes one of each source')
  return {
    mode,
    output,
    sources: sources!,
    objects: objects!,
    frontEnd: frontEnd!,
    libraryFolders: libraryFolders!,
    libraries: libraries!.filter(each => !IN_LIBC.has(each)),
    migrateAt: migrateAt!,
    map,
    verbose,
  }
}

const split = (value: string) => value.split(',').filter(each => each !== '')
