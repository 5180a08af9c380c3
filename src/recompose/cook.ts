/** From a recipe file to an image on disk: opens the images, recomposes, checks the result, writes it in the base's format. */
import path from 'node:path'
import type { Loss } from '../formats/format.js'
import { type ReadImage, withImages } from '../formats/registry.js'
import { ElfFile } from '../lib/elf.js'
import { LossError, UnreadableError } from '../lib/errors.js'
import { Symbolizer } from '../lib/symbolizer.js'
import { LoadedFiles } from '../model/loaded-files.js'
import type { ProcessImage } from '../model/process.js'
import { verifyProcessImage } from '../model/process-verify.js'
import { type Recipe, type RecipeImage, readRecipe } from './recipe.js'
import { recompose, strayPointers } from './recompose.js'
import type { Ingredient } from './regions.js'

export interface Dish {
  readonly path: string
  readonly image: ProcessImage
  readonly losses: readonly Loss[]
  /** Words that still point into another image's vDSO. */
  readonly stray: ReturnType<typeof strayPointers>
}

/** Makes the image that a recipe file describes. @throws ImagoError; `output` is not there then. */
export async function cook(recipeFile: string, output: string): Promise<Dish> {
  const recipe = readRecipe(recipeFile)
  const paths = [...recipe.images.values()].map(({ path }) => path)
  return withImages(paths, (...images) => cookFrom(images, recipe, recipeFile, path.resolve(output)))
}

/** @param images those of the recipe, in its order */
async function cookFrom(
  images: readonly ReadImage[],
  recipe: Recipe,
  recipeFile: string,
  target: string,
): Promise<Dish> {
  const symbolizer = new Symbolizer()
  const ingredients = new Map<string, Ingredient>()
  const read = new Map<string, ReadImage & { kind: 'process' }>()
  for (const [i, [name, from]] of [...recipe.images].entries()) {
    const image = images[i]!
    if (image.kind !== 'process')
      throw new LossError(`image ${name} of the recipe is a machine: only processes can be recomposed`, {
        file: from.path,
      })
    read.set(name, image)
    ingredients.set(name, ingredientOf(name, from, image.image, symbolizer))
  }
  const { format, image: base } = read.get(recipe.base)!
  if (format.write === undefined)
    throw new LossError(`images of format ${format.name} cannot be written`, { file: base.origin.path })
  const image = recompose(recipe, base, ingredients)
  const problems = verifyProcessImage(image)
  if (problems.length > 0)
    throw new LossError('the recipe makes an image that is not sound', {
      file: recipeFile,
      found: problems.slice(0, 5).join('\n            '),
    })
  const losses = await format.write(image, target, { options: {} })
  const pid = ingredients.get(recipe.base)!.process.pid
  const made = image.processes.find(each => each.pid === pid)!
  return { path: target, image, losses, stray: strayPointers(recipe, made, ingredients) }
}

function ingredientOf(
  name: string,
  from: RecipeImage,
  image: ProcessImage,
  symbolizer: Symbolizer,
): Ingredient {
  const process = image.processes.find(
    each => each.state !== 'zombie' && (from.process ?? each.pid) === each.pid,
  )
  if (process === undefined)
    throw new UnreadableError(`image ${name} of the recipe has no process ${from.process ?? ''}`, {
      file: from.path,
      found: image.processes.map(each => each.pid).join(', '),
    })
  const binary = from.binary === undefined ? undefined : ElfFile.open(from.binary)
  const loaded = new LoadedFiles(process, image.isa, file =>
    binary !== undefined && file === process.executable ? binary : symbolizer.file(file),
  )
  if (binary !== undefined && !loaded.files.some(each => each.elf === binary))
    throw new UnreadableError(`the binary of image ${name} does not fit the process`, {
      file: from.binary,
      found: `e_machine ${binary.header.machine}`,
      expected: `the ${image.isa} executable ${process.executable ?? ''}`,
    })
  return { name, isa: image.isa, process, loaded }
}
