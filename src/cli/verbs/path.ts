import type { Command } from '../command.js'

export const command: Command = {
  description: 'libckpt.so goes into a program by LD_PRELOAD; myrestart wakes up an image by itself.',
  arguments: [{ name: 'part', summary: 'libckpt.so or myrestart' }],
  examples: [
    ['LD_PRELOAD=$(imago path libckpt.so) ./prog & kill -12 $!', 'freeze it into the image myckpt'],
    ['$(imago path myrestart) myckpt', 'wake it up'],
  ],
  async run({ args, output }) {
    const { nativePart } = await import('../../engines/preload/native-parts.js')
    const path = nativePart(args.part!)
    if (output.json) return output.value({ path })
    output.line(path)
  },
}
