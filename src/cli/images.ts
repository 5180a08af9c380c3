/** The images that a verb looks into: opened here, and closed when it has done so. */
import type { WriteOptions } from '../formats/format.js'
import type { ReadImage } from '../formats/registry.js'

/** Reads the images at `paths` and gives them to `use`, in order. @throws UnreadableError, LossError */
export async function withImages<T>(
  paths: readonly string[],
  use: (...images: ReadImage[]) => T | Promise<T>,
  options: WriteOptions['options'] = {},
): Promise<T> {
  const { closeImage, readImage } = await import('../formats/registry.js')
  const images: ReadImage[] = []
  try {
    for (const path of paths) images.push(await readImage(path, { options }))
    return await use(...images)
  } finally {
    for (const image of images) closeImage(image)
  }
}
