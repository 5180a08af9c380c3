/** Every message of CRIU 4.2's records by its name; 4.1 and older are subsets. */
import type { MessageType } from '../../../lib/protobuf-schema.js'
import * as fileOwner from './file-owner.js'
import * as files from './files.js'
import * as inventory from './inventory.js'
import * as memory from './memory.js'
import * as namespaces from './namespaces.js'
import * as registersAarch64 from './registers-aarch64.js'
import * as registersOther from './registers-other.js'
import * as registersX86 from './registers-x86.js'
import * as service from './service.js'
import * as sockets from './sockets.js'
import * as tasks from './tasks.js'

export const messages: Readonly<Record<string, MessageType>> = {
  ...registersX86,
  ...registersAarch64,
  ...registersOther,
  ...tasks,
  ...memory,
  ...sockets,
  ...fileOwner,
  ...files,
  ...namespaces,
  ...inventory,
  ...service,
}
