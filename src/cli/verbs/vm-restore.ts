import path from 'node:path'
import type { Command } from '../command.js'
import { guestFrom, imageFrom, imageOptions, sessionFrom, sessionOptions } from '../vm/options.js'

export const command: Command = {
  description:
    'The guest goes on where it was saved: memory is mapped from the image, so this takes a few milliseconds whatever its size; files are reopened at their offsets. The image must stay as it is while the guest runs.',
  arguments: [{ name: 'image', summary: "a microvm image, or the ScratchVM's vm_image.sav" }],
  options: [...imageOptions, ...sessionOptions],
  examples: [['imago vm restore prog.vm', 'go on']],
  async run({ args, options, output }) {
    const { MicroVm } = await import('../../engines/microvm/micro-vm.js')
    const image = path.resolve(args.image!)
    const session = sessionFrom(options, image.replace(/\.sav$/, '.vm'))
    const guest = await guestFrom(options, output)
    // What comes after it is loaded while its thread makes the guest.
    const [vm, { printBlock, runSession }, { claimImage }] = await Promise.all([
      MicroVm.start({ ...guest, start: imageFrom(options, image) }),
      import('../vm/session.js'),
      import('../../migrate/offer.js'),
    ])
    try {
      const remark = claimImage(image)
      if (remark !== undefined) output.note(`imago: ${remark}`)
      await printBlock(image, output)
      return await runSession(vm, session, output)
    } finally {
      await vm.release()
    }
  },
}
