import { execFileSync } from 'node:child_process'
import type { Reporter, TestCase, TestModule } from 'vitest/node'

const LOOK_EVERY_MS = 60_000
const LONG_MS = 240_000

/**
 * Says at once what failed, not only at the end, and which file of tests has been silent for long, with the processes that there are
 * then: also of a run that is ended from outside it is known what was wrong.
 */
export default class ProgressReporter implements Reporter {
  readonly #modules = new Map<TestModule, { since: number; what: string }>()
  #timer: NodeJS.Timeout | undefined
  #shown = false

  onTestRunStart(): void {
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS).unref()
  }

  onTestModuleStart(module: TestModule): void {
    this.#modules.set(module, { since: Date.now(), what: 'its first test' })
  }

  onTestCaseReady(test: TestCase): void {
    this.#modules.set(test.module, { since: Date.now(), what: `‘${test.fullName}’` })
  }

  onTestCaseResult(test: TestCase): void {
    for (const { message } of test.result().errors ?? [])
      console.log(`FAILED ${test.module.moduleId} > ${test.fullName}: ${message}`)
    this.#modules.set(test.module, { since: Date.now(), what: `what follows ‘${test.fullName}’` })
  }

  onTestModuleEnd(module: TestModule): void {
    this.#modules.delete(module)
  }

  onTestRunEnd(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    for (const [module, { since, what }] of this.#modules) {
      const seconds = Math.round((Date.now() - since) / 1000)
      if (seconds * 1000 < LONG_MS) continue
      console.log(`${module.moduleId}: ${what} has taken ${seconds} s so far`)
      if (this.#shown) continue
      this.#shown = true
      console.log(execFileSync('ps', PROCESSES, PS))
    }
  }
}

/** All but the kernel's threads, the children of process 2. */
const PROCESSES = [
  '--ppid',
  '2',
  '-p',
  '2',
  '--deselect',
  '-o',
  'pid,ppid,stat,wchan:20,etimes,args',
  '--forest',
]
const PS = { encoding: 'utf8', timeout: 10_000, maxBuffer: 1 << 24 } as const
