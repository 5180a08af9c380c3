import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { ask } from '../../../src/engines/arm64-machine/agent.js'
import { Arm64Machine } from '../../../src/engines/arm64-machine/machine.js'

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
    const bytes = randomBytes(1_000_003)
    await machine.putFile("/tmp/it's here/file", bytes)
    expect((await machine.getFile("/tmp/it's here/file")).equals(bytes)).toBe(true)
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

  test('criu works in it', async () => {
    expect(await machine.must('criu check')).toContain('Looks good')
  })
})
