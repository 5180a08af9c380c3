/**
 * Errors that a user reads. One class per exit code; each says what happened, where, what was found
 * and expected, and what to do about it.
 */

import { getSystemErrorMap } from 'node:util'

export const ExitCode = {
  done: 0,
  failed: 1,
  usage: 2,
  unreadable: 3,
  loss: 4,
  host: 5,
  peer: 6,
  interrupted: 130,
} as const
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode]

/** Where in the input, what was there, what should have been, and the cure. All optional. */
export interface ErrorDetails {
  /** Path of the file the error is about. */
  file?: string | undefined
  /** Byte offset in that file. */
  offset?: number | bigint | undefined
  /** Virtual (or guest physical) address the error is about. */
  address?: bigint | undefined
  found?: string | number | bigint | undefined
  expected?: string | number | bigint | undefined
  /** What the user can do. A sentence, or a command. */
  hint?: string | undefined
  cause?: unknown
}

/** The root of all errors that are told to a user; its subclasses have the exit codes. Throw one of those where one fits. */
export class ImagoError extends Error {
  readonly exitCode: ExitCode = ExitCode.failed
  readonly details: ErrorDetails

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = new.target.name
    this.details = details
  }

  /** The whole error as the lines a terminal shows, without a trailing newline. */
  describe(): string {
    const { file, offset, address, found, expected, hint } = this.details
    const where = [
      file,
      offset === undefined ? undefined : `offset 0x${offset.toString(16)}`,
      address === undefined ? undefined : `address 0x${address.toString(16)}`,
    ].filter(part => part !== undefined)
    const lines = [where.length > 0 ? `${this.message} (${where.join(', ')})` : this.message]
    if (found !== undefined) lines.push(`  found:    ${found}`)
    if (expected !== undefined) lines.push(`  expected: ${expected}`)
    if (hint !== undefined) lines.push(`  hint:     ${hint}`)
    return lines.join('\n')
  }
}

/** The words of errno(3): `no such file or directory` for 2. */
export const errnoWords = (errno: number): string | undefined => getSystemErrorMap().get(-errno)?.[1]

/** Why a system call of Node failed, in those words, without call and path. */
export function systemReason(error: unknown): string {
  const { errno, message } = error as NodeJS.ErrnoException
  return errnoWords(-(errno ?? 0)) ?? message
}

/** The command line is wrong. Exit code 2. */
export class UsageError extends ImagoError {
  override readonly exitCode = ExitCode.usage
}

/** An input is not what it claims to be, is cut short, or breaks a limit. Exit code 3. */
export class UnreadableError extends ImagoError {
  override readonly exitCode = ExitCode.unreadable
}

/** Going on would lose or change something of the user's: unsupported state, or any loss under `--strict`. Exit code 4. */
export class LossError extends ImagoError {
  override readonly exitCode = ExitCode.loss
}

/** This host cannot do it: a missing program, device, permission or kernel feature. Exit code 5. */
export class HostError extends ImagoError {
  override readonly exitCode = ExitCode.host
}

/** The other side (a remote imago, an emulator, criu) failed or went away. Exit code 6. */
export class PeerError extends ImagoError {
  override readonly exitCode = ExitCode.peer
}

/** The user pressed Ctrl-C, or a time limit ended it. Exit code 130. */
export class InterruptedError extends ImagoError {
  override readonly exitCode = ExitCode.interrupted
}

/** An error that another thread or process met, by the name of its class. */
export function errorNamed(name: string, message: string, details: ErrorDetails = {}): Error {
  const Class = [
    UsageError,
    UnreadableError,
    LossError,
    HostError,
    PeerError,
    InterruptedError,
    ImagoError,
  ].find(candidate => candidate.name === name)
  return Class === undefined ? new Error(message) : new Class(message, details)
}
