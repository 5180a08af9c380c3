import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { execFileSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { guest, missingForGuests } from './guests.js'

/** What the guest tries → what it must be told, in the order of workloads/vm/attack.c. */
const answers = `No such file or directory*8 0*2 No such file or directory Permission denied Bad address*6 1 Bad address
Bad file descriptor*4 1 Invalid argument Bad address Out of memory Operation not permitted Out of memory
Permission denied Out of memory Invalid argument Operation not permitted Bad address*3 Function not implemented*3
Invalid argument*2
No such file or directory*2 Bad address*2 Bad file descriptor Operation not permitted Invalid argument Bad address
Invalid argument Bad address Invalid argument*3`

function expected(): string[] {
  const pattern =
    /(No such file or directory|Permission denied|Bad address|Bad file descriptor|Invalid argument|Out of memory|Operation not permitted|Function not implemented|\d)(?:\*(\d+))?(?=\s|$)/g
  return [...answers.matchAll(pattern)].flatMap(
    ([, text, times]) => Array(Number(times ?? 1)).fill(text) as string[],
  )
}

test('a guest that tries to leave its root, or gives wild pointers, gets the right errno and nothing else', ({
  skip,
}) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const folder = temporaryFolder()
  const root = path.join(folder, 'root')
  for (const name of ['root', 'other']) fs.mkdirSync(path.join(folder, name))
  for (const name of ['outside', 'other/outside']) fs.writeFileSync(path.join(folder, name), 'secret\n')
  fs.writeFileSync(path.join(root, 'inside'), 'in\n')
  fs.symlinkSync('../outside', path.join(root, 'link'))
  fs.symlinkSync('../other', path.join(root, 'folder-link'))
  execFileSync('mkfifo', [path.join(root, 'fifo')])

  for (const engine of ['kvm', 'unicorn']) {
    for (const name of ['made', 'made-link'])
      fs.rmSync(path.join(root, name), { recursive: true, force: true })
    const result = imago(['vm', 'run', '-q', '--engine', engine, '--root', root, guest('attack')])
    expect(result.code).toBe(0)
    expect(
      result.stdout
        .trim()
        .split('\n')
        .map(line => line.replace(/^.*: /, '')),
    ).toEqual(expected())
    expect(fs.readdirSync(folder).sort()).toEqual(['other', 'outside', 'root'])
    expect(fs.readdirSync(path.join(folder, 'other'))).toEqual(['outside'])
  }
})

test('below a read-only root nothing is created, written or removed', ({ skip }) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const root = temporaryFolder()
  const result = imago(['vm', 'run', '-q', '--trace', '--read-only', '--root', root, guest('caramba')], {
    cwd: root,
  })
  expect(result.stderr).toContain('VM_APP - OPEN ./ay_caramba.txt 32834 511 - return -30')
  expect(fs.existsSync(path.join(root, 'ay_caramba.txt'))).toBe(false)
})
