/**
 * What `llc -print-before=PASS` writes about machine functions, as far as liveness needs it:
 *
 *   # *** IR Dump Before Greedy Register Allocator (greedy) ***:
 *   # Machine code for function fib: …
 *   16B  bb.1.label:                                       (the number before a line is its slot index, if any)
 *          successors: %bb.2(0x40000000), %bb.3(0x40000000)
 *   32B    undef %5.sub_32bit:gr64 = COPY killed $eax, implicit-def dead $eflags :: (load (s64) from %stack.0)
 */

export interface MachineBlock {
  readonly number: number
  readonly successors: number[]
  readonly instructions: MachineInstruction[]
}

export interface MachineInstruction {
  readonly text: string
  readonly defines: readonly string[]
  readonly uses: readonly string[]
  /** A call: it names the registers its callee preserves. */
  readonly isCall: boolean
  /** The site whose stackmap this is. */
  readonly stackmap: number | undefined
}

export interface MachineFunction {
  readonly pass: string
  readonly name: string
  readonly blocks: readonly MachineBlock[]
}

/** Functions of a dump that hold a stackmap, one at a time. */
export function* machineFunctions(dump: string): Generator<MachineFunction> {
  const heading = /^# \*\*\* IR Dump (?:Before|After) .*\((\S+)\) \*\*\*:$/gm
  let match = heading.exec(dump)
  while (match !== null) {
    const start = heading.lastIndex
    const next = heading.exec(dump)
    const text = dump.slice(start, next?.index)
    if (/\bSTACKMAP\b/.test(text)) {
      const name = /^# Machine code for function ([^:\n]+):/m.exec(text)![1]!
      yield { pass: match[1]!, name, blocks: parseBlocks(text) }
    }
    match = next
  }
}

function parseBlocks(text: string): MachineBlock[] {
  const blocks: MachineBlock[] = []
  for (const raw of text.split('\n')) {
    const line = raw.replace(/^\d+B/, '').trim()
    const label = /^bb\.(\d+)\b.*:$/.exec(line)
    if (label) blocks.push({ number: Number(label[1]), successors: [], instructions: [] })
    const block = blocks.at(-1)
    if (label || block === undefined || line === '' || line.startsWith(';')) continue
    if (line.startsWith('successors:'))
      block.successors.push(...new Set([...line.matchAll(/%bb\.(\d+)/g)].map(each => Number(each[1]))))
    else if (/^(liveins|#)/.test(line)) continue
    else if (!line.startsWith('DBG_')) block.instructions.push(parseInstruction(line))
  }
  return blocks
}

/** Registers that are the machine's own, or that every function keeps by itself. */
const RESERVED =
  /^(noreg|rsp|esp|sp|wsp|rbp|ebp|fp|x29|w29|rip|ssp|mxcsr|fpcw|fpsw|fpcr|fpsr|eflags|nzcv|df|xzr|wzr|vg|ffr|[cdefgs]s)$/

/** One name for all parts of a physical register: `$eax`, `$al` → `$rax`; `$w3` → `$x3`; `$s8`, `$q8` → `$v8`. */
export function wholeRegister(name: string): string | undefined {
  if (RESERVED.test(name)) return undefined
  const legacy = /^[er]?([abcd])(?:x|l|h)$/.exec(name)
  if (legacy) return `$r${legacy[1]}x`
  const index = /^[er]?(si|di)l?h?$/.exec(name)
  if (index) return `$r${index[1]}`
  const extended = /^(r\d+)[dwb]?h?$/.exec(name)
  if (extended) return `$${extended[1]}`
  const sse = /^[xyz]mm(\d+)$/.exec(name)
  if (sse) return `$xmm${sse[1]}`
  const arm = /^[wx](\d+)$/.exec(name)
  if (arm) return `$x${arm[1]}`
  if (name === 'lr') return '$x30'
  const vector = /^[bhsdqz](\d+)$/.exec(name)
  if (vector) return `$v${vector[1]}`
  return `$${name}`
}

/** Physical registers of a name that stands for several: `$x0_x1`, `$q0_q1`. */
const registersOf = (name: string): string[] =>
  name
    .split('_')
    .map(wholeRegister)
    .filter(each => each !== undefined)

/** Where a value can be: virtual registers `%5`, physical ones `$rbx`, spill slots `%stack.0`, incoming arguments `%fixed-stack.1`. */
export function parseInstruction(line: string): MachineInstruction {
  const text = line.replace(/<regmask [^>]*>/, '<regmask>').replace(/; .*$/, '')
  const [operands = '', memory = ''] = text.split(' :: ')
  const defines: string[] = []
  const uses: string[] = []
  const assignment = /^[^("]* = /.test(operands) ? operands.indexOf(' = ') : -1
  const left = assignment < 0 ? '' : operands.slice(0, assignment)
  const right = assignment < 0 ? operands : operands.slice(assignment + 3)
  for (const match of left.matchAll(/(undef )?%(\d+)(\.\w+)?|\$(\w+)/g)) {
    if (match[4] !== undefined) defines.push(...registersOf(match[4]))
    else {
      // A part of a register written without `undef` keeps the other part.
      if (match[3] !== undefined && match[1] === undefined) uses.push(`%${match[2]}`)
      defines.push(`%${match[2]}`)
    }
  }
  for (const match of right.matchAll(
    /((?:(?:implicit-def|implicit|dead|killed|undef|renamable|early-clobber|internal|def) )*)(?:(?<![\w.-])%(\d+)\b|\$(\w+))/g,
  )) {
    const flags = match[1]!
    const names = match[2] !== undefined ? [`%${match[2]}`] : registersOf(match[3]!)
    if (/\b(implicit-def|early-clobber|def)\b/.test(flags)) defines.push(...names)
    else if (!/\bundef\b/.test(flags)) uses.push(...names)
  }
  // Spill slots: what memory operands say; an address alone counts as a use.
  const slots = new Set([...right.matchAll(/%(?:fixed-)?stack\.\d+/g)].map(match => match[0]))
  for (const slot of slots) {
    const stored = memory.includes(`into ${slot}`)
    const loaded = memory.includes(`from ${slot}`)
    if (stored && !loaded) defines.push(slot)
    else uses.push(slot)
  }
  const stackmap = /^STACKMAP (\d+)/.exec(right)?.[1]
  return {
    text,
    defines,
    uses: stackmap === undefined ? uses : [],
    isCall: text.includes('<regmask>'),
    stackmap: stackmap === undefined ? undefined : Number(stackmap),
  }
}
