/** Who gets SIGIO of an open file (fcntl F_SETOWN); part of every kind of file. */
import { message, required, uint32 } from '../../../lib/protobuf-schema.js'

export const fown_entry = message('fown_entry', {
  uid: required(1, uint32),
  euid: required(2, uint32),
  signum: required(3, uint32),
  pid_type: required(4, uint32),
  pid: required(5, uint32),
})
