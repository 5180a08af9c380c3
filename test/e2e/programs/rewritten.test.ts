/** An image that went through the model: read, written anew, and woken up. */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { formatNamed, readImage } from '../../../src/formats/registry.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { canBeFrozen, imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const program = `
import json, os, time
for n in range(60):
    print(json.dumps(n), flush=True)
    while n > 8 and not os.path.exists("go"): time.sleep(0.01)
`

test('python3 goes on from a core written anew from its model, with what its libraries had changed of their files', async () => {
  const folder = temporaryFolder()
  const place = (name: string) => path.join(folder, name)
  const out = fs.openSync(place('out'), 'w')
  const child = spawn(path.join(packageRoot, 'imago'), ['run', '--', 'python3', '-c', program], {
    cwd: folder,
    stdio: ['ignore', out, out],
  })
  await canBeFrozen(child.pid!)
  const lines = () => fs.readFileSync(place('out'), 'utf8').trim().split('\n')
  while (lines().length < 10) await new Promise(go => setTimeout(go, 10))
  const taken = imago(['checkpoint', String(child.pid), '-o', place('first'), '--stop'])
  expect(taken.code, taken.stderr).toBe(0)
  const read = await readImage(place('first'))
  await formatNamed('core').write!(read.image as never, place('second'), { options: {} })
  fs.writeFileSync(place('go'), '')
  const woken = imago(['restore', place('second')])
  expect(woken.code, woken.stderr).toBe(0)
  expect(lines()).toEqual(Array.from({ length: 60 }, (_, n) => String(n)))
})
