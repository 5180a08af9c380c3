import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { onTestFinished } from 'vitest'

/** A fresh folder that goes away with the test. */
export function temporaryFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-test-'))
  onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A fresh folder that stays until this test process ends, for what several tests share. */
export function sharedFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-test-'))
  process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
  return folder
}
