/**
 * Large files on their way into the machine: images are mostly holes, which are made there again instead of being sent.
 *
 *   sent     the blocks that hold something, one after the other
 *   there    truncate makes the file, a `dd` for each run of blocks lays it where it belongs
 */
const BLOCK = 1 << 16
/** More runs than a command line holds: the file is sent as it is. */
const MOST_RUNS = 500
/** Smaller files are not worth a look. */
const SMALL = 1 << 20

interface Run {
  /** In blocks. */
  readonly from: number
  readonly count: number
}

export interface SparseFile {
  readonly blocks: Uint8Array
  /** Makes `target` of the file `sent`, both words of a shell's command line. */
  command(sent: string, target: string): string
}

/** Undefined for what has no holes worth mentioning. */
export function sparse(content: Uint8Array): SparseFile | undefined {
  if (content.length < SMALL) return undefined
  const runs = runsOf(content)
  const kept = runs.reduce((sum, { count }) => sum + count, 0) * BLOCK
  if (runs.length > MOST_RUNS || kept > content.length / 2) return undefined
  const blocks = Buffer.concat(
    runs.map(({ from, count }) => content.subarray(from * BLOCK, (from + count) * BLOCK)),
  )
  return {
    blocks,
    command: (sent, target) => {
      let skip = 0
      const copies = runs.map(({ from, count }) => {
        const copy = `dd if=${sent} of=${target} bs=${BLOCK} skip=${skip} seek=${from} count=${count} conv=notrunc 2>/dev/null`
        skip += count
        return copy
      })
      return [`rm -f ${target}`, `truncate -s ${content.length} ${target}`, ...copies].join(' && ')
    },
  }
}

function runsOf(content: Uint8Array): Run[] {
  const zeros = Buffer.alloc(BLOCK)
  const runs: { from: number; count: number }[] = []
  for (let block = 0; block * BLOCK < content.length; block++) {
    const bytes = content.subarray(block * BLOCK, (block + 1) * BLOCK)
    if (zeros.compare(bytes, 0, bytes.length, 0, bytes.length) === 0) continue
    const last = runs.at(-1)
    if (last !== undefined && last.from + last.count === block) last.count++
    else runs.push({ from: block, count: 1 })
  }
  return runs
}
