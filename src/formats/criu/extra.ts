/**
 * The raw data that follows the entries of some kinds of image, and its length as the entry tells it:
 *
 *   pipeData      pipe_data_entry.bytes             socketPacket  sk_packet_entry.length
 *   tcpStream     inq_len + outq_len                bpfMap        keys_bytes + values_bytes
 *   semaphores    nsems × u16, padded to 8          sharedMemory  size, padded to 4; nothing when in page maps
 *   messageQueue  qnum × (u32 length, ipc_msg, msize bytes padded to 8)
 *   ghostFile     the rest of the file; or, with `chunks`, ghost_chunk_entry and its `len` bytes, again and again
 */
import { alignUp, ByteReader } from '../../lib/bytes.js'
import { UnreadableError } from '../../lib/errors.js'
import { decodeMessage } from '../../lib/protobuf.js'
import type { Message, MessageOf } from '../../lib/protobuf-schema.js'
import type { bpfmap_data_entry, ghost_file_entry, pipe_data_entry } from './schema/files.js'
import { ipc_msg, type ipc_msg_entry, type ipc_sem_entry, type ipc_shm_entry } from './schema/namespaces.js'
import type { sk_packet_entry, tcp_stream_entry } from './schema/sockets.js'

export type ExtraKind =
  | 'pipeData'
  | 'socketPacket'
  | 'tcpStream'
  | 'bpfMap'
  | 'semaphores'
  | 'sharedMemory'
  | 'messageQueue'
  | 'ghostFile'

/** `bytes` with zeros up to a multiple of `alignment`. */
export function padTo(bytes: Uint8Array, alignment: number): Uint8Array {
  const whole = new Uint8Array(alignUp(bytes.length, alignment))
  whole.set(bytes)
  return whole
}

/** Bytes that follow `message`, padding included. `reader` stands after the message and is not moved. */
export function extraLength(kind: ExtraKind, message: Message, reader: ByteReader): number {
  switch (kind) {
    case 'pipeData':
      return (message as MessageOf<typeof pipe_data_entry>).bytes
    case 'socketPacket':
      return (message as MessageOf<typeof sk_packet_entry>).length
    case 'tcpStream': {
      const stream = message as MessageOf<typeof tcp_stream_entry>
      return stream.inq_len + stream.outq_len
    }
    case 'bpfMap': {
      const map = message as MessageOf<typeof bpfmap_data_entry>
      return map.keys_bytes + map.values_bytes
    }
    case 'semaphores':
      return alignUp(2 * (message as MessageOf<typeof ipc_sem_entry>).nsems, 8)
    case 'sharedMemory': {
      const segment = message as MessageOf<typeof ipc_shm_entry>
      return segment.in_pagemaps ? 0 : alignUp(Number(segment.size), 4)
    }
    case 'messageQueue':
      return messagesIn(message as MessageOf<typeof ipc_msg_entry>, reader.bytes.subarray(reader.position))
        .length
    case 'ghostFile':
      return (message as MessageOf<typeof ghost_file_entry>).chunks ? 0 : reader.remaining
  }
}

export interface QueuedMessage {
  readonly header: MessageOf<typeof ipc_msg>
  readonly body: Uint8Array
}

/** The messages of a System V queue, and the number of bytes they take. */
export function messagesIn(
  queue: MessageOf<typeof ipc_msg_entry>,
  bytes: Uint8Array,
): { readonly messages: readonly QueuedMessage[]; readonly length: number } {
  const reader = new ByteReader(bytes)
  const messages: QueuedMessage[] = []
  for (let i = 0; i < queue.qnum; i++) {
    if (reader.remaining === 0)
      throw new UnreadableError('truncated: a message queue ends before its last message', {
        found: `${i} messages`,
        expected: `${queue.qnum} messages`,
      })
    const header = decodeMessage(ipc_msg, reader.take(reader.u32('message length'), 'message header'))
    messages.push({ header, body: reader.take(header.msize, 'message body') })
    reader.skip(alignUp(header.msize, 8) - header.msize, 'padding of a message body')
  }
  return { messages, length: reader.position }
}
