/**
 * Subsections: parts of a device's state that QEMU writes only while they say something. A template mostly lacks them,
 * and the loader takes them wherever the description of the structure ends:
 *
 *   … last field of the structure │ 05 │ u8 n, name │ u32 version │ fields │ …
 *
 * Sources: QEMU target/i386/machine.c, hw/char/serial.c, hw/intc/i8259_common.c; streams of QEMU 7.2 that hold them.
 */
import type { FieldDescription, StateDescription } from './description.js'

/** What a subsection begins with. */
export const SUBSECTION_MARK = 0x05

export interface OptionalPart {
  /** Device by its name in the stream. */
  readonly device: string
  /** The structure that it belongs to: `state.`, or nothing for the device itself. */
  readonly within: string
  /** First version of the machine type whose QEMU knows it, where that is not 7.2. */
  readonly since?: readonly [major: number, minor: number]
  readonly description: StateDescription & { readonly vmsd_name: string }
}

const field = (type: string, size: number, name: string): FieldDescription => ({ name, type, size })
const part = (
  device: string,
  within: string,
  name: string,
  ...fields: readonly FieldDescription[]
): OptionalPart => ({
  device,
  within,
  description: { vmsd_name: name, version: 1, fields, subsections: [] },
})

const fifo = (name: string): FieldDescription => ({
  ...field('struct', 24, name),
  struct: {
    vmsd_name: 'Fifo8',
    version: 1,
    fields: [field('buffer', 16, 'data'), field('uint32', 4, 'head'), field('uint32', 4, 'num')],
  },
})

/** Those for which the neutral machine has a value. */
const optionalParts: readonly OptionalPart[] = [
  part(
    ...(['cpu', '', 'cpu/fpop_ip_dp'] as const),
    field('uint16', 2, 'env.fpop'),
    field('uint64', 8, 'env.fpip'),
    field('uint64', 8, 'env.fpdp'),
  ),
  part('serial', 'state.', 'serial/thr_ipending', field('int32', 4, 'thr_ipending')),
  part(
    ...(['serial', 'state.', 'serial/tsr'] as const),
    field('uint32', 4, 'tsr_retry'),
    field('uint8', 1, 'thr'),
    field('uint8', 1, 'tsr'),
  ),
  part('serial', 'state.', 'serial/recv_fifo', fifo('recv_fifo')),
  part('serial', 'state.', 'serial/xmit_fifo', fifo('xmit_fifo')),
  part('serial', 'state.', 'serial/fifo_timeout_timer', field('timer', 8, 'fifo_timeout_timer')),
  ...[0, 1].map(instance => ({
    ...part(instance === 0 ? 'i8259' : 'i8259#1', '', 'i8259/ltim', field('uint8', 1, 'ltim')),
    since: [8, 0] as const,
  })),
]

/** The part that holds the field `path` of `device`, where a machine of this type (`pc-i440fx-7.2`) may have it. */
export function optionalPartFor(device: string, path: string, machine: string): OptionalPart | undefined {
  const [, major, minor] = /-(\d+)\.(\d+)$/.exec(machine) ?? []
  return optionalParts.find(({ since, ...each }) => {
    if (each.device !== device || !path.startsWith(`${each.within}${each.description.vmsd_name}.`))
      return false
    return (
      since === undefined ||
      Number(major) > since[0] ||
      (Number(major) === since[0] && Number(minor) >= since[1])
    )
  })
}

/** The bytes of a subsection whose fields are all zero. */
export function emptyPart({ description }: OptionalPart): Buffer {
  const { vmsd_name: name, version } = description
  const head = Buffer.alloc(2 + name.length + 4)
  head[0] = SUBSECTION_MARK
  head[1] = name.length
  head.write(name, 2, 'latin1')
  head.writeUInt32BE(version!, 2 + name.length)
  return Buffer.concat([head, Buffer.alloc(bytesOf(description))])
}

function bytesOf({ fields }: StateDescription): number {
  return (fields ?? []).reduce(
    (sum, { struct, size }) => sum + (struct === undefined ? size : bytesOf(struct)),
    0,
  )
}

/** The description of a structure with one more subsection, in the structure `within` it. */
export function withSubsection<State extends StateDescription>(
  state: State,
  within: string,
  part: StateDescription,
): State {
  if (within === '') return { ...state, subsections: [...(state.subsections ?? []), part] }
  const [name] = within.split('.') as [string]
  const rest = within.slice(name.length + 1)
  return {
    ...state,
    fields: state.fields?.map(field =>
      field.name === name && field.struct !== undefined
        ? { ...field, struct: withSubsection(field.struct, rest, part) }
        : field,
    ),
  }
}
