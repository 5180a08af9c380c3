/** RAM of a machine's page: its ranges, how much of each is zero, and where the rest lies. */
import { hex, isZero } from '../../lib/bytes.js'
import type { MachineImage } from '../../model/machine.js'
import { blocksOf, ramRanges } from '../../model/machine-memory.js'
import { bytesText, columns, styled } from '../output.js'

const LOOK_BYTES = 64 * 1024
const PAGE = 4096
/** Cells of the map of a range. */
const MAP_CELLS = 64

export interface RamRangeSummary {
  readonly start: bigint
  readonly bytes: number
  readonly zeroPages: number
  readonly pages: number
  /** Pages that are not zero in each of up to 64 equal parts. */
  readonly map: readonly number[]
}

/** How much of RAM is zero, page by page. */
export function ramSummary(image: MachineImage): RamRangeSummary[] {
  return ramRanges(image.memory).map(({ start, length }) => {
    const pages = Math.ceil(length / PAGE)
    const map = new Array<number>(Math.min(MAP_CELLS, pages)).fill(0)
    let used = 0
    for (const { offset, bytes } of blocksOf(image.memory, start, length, LOOK_BYTES)) {
      if (bytes === undefined || isZero(bytes)) continue
      for (let at = 0; at < bytes.length; at += PAGE)
        if (!isZero(bytes.subarray(at, at + PAGE))) {
          used++
          map[Math.floor(((offset + at) / length) * map.length)]!++
        }
    }
    return { start, bytes: length, zeroPages: pages - used, pages, map }
  })
}

const SHADES = ['·', '░', '▒', '▓', '█']

/** A row a range, and below it the map: from `·` all zero to `█` all in use. */
export function ramLines(image: MachineImage): string[] {
  const ranges = ramSummary(image)
  if (ranges.length === 0) return ['  none in the image']
  const rows = ranges.map(({ start, bytes, zeroPages, pages }) => [
    `${hex(start)} – ${hex(start + BigInt(bytes) - 1n)}`,
    bytesText(bytes),
    `${zeroPages === pages ? 100 : Math.floor((1000 * zeroPages) / Math.max(1, pages)) / 10} % zero`,
  ])
  return columns(rows, { indent: '  ' })
    .split('\n')
    .flatMap((line, i) => [line, `  ${styled('dim', mapText(ranges[i]!))}`])
}

function mapText({ map, pages }: RamRangeSummary): string {
  const perCell = pages / map.length
  return map.map(used => SHADES[Math.ceil((used / perCell) * (SHADES.length - 1))] ?? '█').join('')
}
