import type { Command } from '../command.js'

export const command: Command = {
  description:
    'Builds a new image out of several, region by region as the recipe (YAML or JSON) says: zero, copy from an image, template\n' +
    'from another, drop, patch bytes. Page map, address space, registers and files follow. docs/recompose.md describes recipes.',
  arguments: [{ name: 'recipe', summary: 'the recipe file' }],
  options: [
    { flags: '-o, --output <path>', summary: 'where the new image goes; it appears whole or not at all' },
  ],
  examples: [
    ['imago recompose move.yaml -o ./recomposed', 'an image as the recipe says'],
    ['imago pages ./dump', 'the regions, pages and offsets that a recipe speaks of'],
  ],
  async run({ args, options, output }) {
    const { UsageError } = await import('../../lib/errors.js')
    if (typeof options.output !== 'string')
      throw new UsageError('no place for the new image', { hint: '-o PATH' })
    const { cook } = await import('../../recompose/cook.js')
    const { hex } = await import('../../lib/bytes.js')
    const { path, image, losses, stray } = await cook(args.recipe!, options.output)
    for (const { address, value, function: name, image: from } of stray)
      output.warn(
        `the word at ${hex(address)} holds ${hex(value)}, the ${name} of ${from}'s vDSO, which is not there any more: patch it`,
      )
    if (output.json)
      return output.value({
        output: path,
        format: image.origin.format,
        losses,
        stray: stray.map(({ mapping, ...each }) => each),
      })
    output.line(`${path} written`)
    for (const loss of losses) output.warn(`${loss.kind}: ${loss.subject} ${loss.field}: ${loss.detail}`)
  },
}
