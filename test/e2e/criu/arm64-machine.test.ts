import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { ask } from '../../../src/engines/arm64-machine/agent.js'
import { Arm64Machine } from '../../../src/engines/arm64-machine/machine.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const missing = Arm64Machine.missing()
let machine: Arm64Machine

describe('the aarch64 machine', () => {
  beforeEach(({ skip }) => skip(missing !== undefined, missing))
  beforeAll(async () => {
    if (missing === undefined) machine = await Arm64Machine.boot()
  })
  afterAll(() => machine?.stop())

  test('runs a command and tells its output, its errors and its exit code apart', async () => {
    const { code, stdout, stderr } = await machine.run('uname -m; echo wrong >&2; exit 3')
    expect({ code, stdout: stdout.toString(), stderr }).toEqual({
      code: 3,
      stdout: 'aarch64\n',
      stderr: 'wrong\n',
    })
  })

  test('a file of random bytes comes back as it went', async () => {
    const file = path.join(temporaryFolder(), "it's here")
    const bytes = randomBytes(1_000_003)
    fs.writeFileSync(file, bytes, { mode: 0o640 })
    await machine.putFile(file, "/tmp/it's there/file")
    await machine.getFile("/tmp/it's there/file", `${file} again`)
    expect(fs.readFileSync(`${file} again`).equals(bytes)).toBe(true)
    expect(fs.statSync(`${file} again`).mode).toBe(fs.statSync(file).mode)
  })

  test('a large file of few bytes comes back as it went, and takes little room there and here', async () => {
    const file = path.join(temporaryFolder(), 'sparse')
    const fd = fs.openSync(file, 'w')
    for (const at of [0, 70_000, 50_000_000]) fs.writeSync(fd, randomBytes(1000), 0, 1000, at)
    fs.closeSync(fd)
    await machine.putFile(file, "/tmp/it's sparse")
    expect(Number((await machine.must(`du -k "/tmp/it's sparse"`)).split('\t')[0])).toBeLessThan(1000)
    await machine.getFile("/tmp/it's sparse", `${file} again`)
    expect(fs.statSync(`${file} again`).blocks * 512).toBeLessThan(1 << 20)
    expect(fs.readFileSync(`${file} again`).equals(fs.readFileSync(file))).toBe(true)
  })

  test('commands at the same time do not mix their answers', async () => {
    const answers = await Promise.all([1, 2, 3, 4].map(n => machine.must(`sleep 0.2; echo ${n}`)))
    expect(answers).toEqual(['1\n', '2\n', '3\n', '4\n'])
  })

  test('a command that hangs is killed, and the machine lives on', async () => {
    expect((await machine.run('sleep 1000', { timeout: 1000 })).code).toBe(137)
    expect(await machine.must('echo alive')).toBe('alive\n')
  })

  test('who does not know the secret gets no answer', async () => {
    await expect(ask(machine.forwardedPort(2222), 'guess', 'touch /tmp/intruder', 20_000)).rejects.toThrow(
      'the connection ended before the answer did',
    )
    expect((await machine.run('test -e /tmp/intruder')).code).toBe(1)
  })

  test('a folder comes back as it went, with modes and links, even one that leads nowhere', async () => {
    const folder = temporaryFolder()
    const [there, back] = [path.join(folder, 'there'), path.join(folder, 'back')]
    fs.mkdirSync(path.join(there, 'deeper'), { recursive: true })
    fs.writeFileSync(path.join(there, 'deeper', 'file'), randomBytes(5000), { mode: 0o640 })
    fs.symlinkSync('../of/a/previous/dump', path.join(there, 'parent'))
    await machine.putFolder(there, '/tmp/a folder')
    await machine.getFolder('/tmp/a folder', back)
    expect(fs.readlinkSync(path.join(back, 'parent'))).toBe('../of/a/previous/dump')
    const [sent, got] = [there, back].map(place => path.join(place, 'deeper', 'file')) as [string, string]
    expect(fs.readFileSync(got).equals(fs.readFileSync(sent))).toBe(true)
    expect(fs.statSync(got).mode).toBe(fs.statSync(sent).mode)
  })

  test('a machine that stays is found by its folder, until it is stopped', async () => {
    const folder = path.join(temporaryFolder(), 'machine')
    const { pid } = await Arm64Machine.boot({ stayIn: folder })
    const found = Arm64Machine.find(folder)
    try {
      expect(found?.pid).toBe(pid)
      expect(await found?.must('uname -m')).toBe('aarch64\n')
    } finally {
      await found?.stop()
    }
    expect([Arm64Machine.find(folder), fs.existsSync(folder)]).toEqual([undefined, false])
  })

  test('criu works in it', async () => {
    expect(await machine.must('criu check')).toContain('Looks good')
  })
})
