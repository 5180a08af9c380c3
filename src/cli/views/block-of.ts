/** The ScratchVM's block for an image of either format. */
import { blockOfMicroVm } from '../../formats/microvm/block.js'
import { detectFormat } from '../../formats/registry.js'
import { blockOfScratch } from '../../formats/scratchvm/block.js'
import type { ScratchBlock } from './scratch-block.js'

/** @throws UnreadableError */
export async function blockOf(image: string): Promise<ScratchBlock> {
  return detectFormat(image).name === 'scratchvm' ? blockOfScratch(image) : blockOfMicroVm(image)
}
