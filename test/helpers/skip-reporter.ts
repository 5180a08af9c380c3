import type { Reporter, TestCase, TestModule } from 'vitest/node'

/** Prints why each skipped test was skipped, and one plain closing line that counts passed, failed and skipped. */
export default class SkipReporter implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>): void {
    const count = { passed: 0, failed: 0, skipped: 0 }
    const skips: string[] = []
    for (const module of modules) {
      if (module.state() === 'failed' && [...module.children.allTests()].length === 0) count.failed++
      for (const test of module.children.allTests() as Iterable<TestCase>) {
        const result = test.result()
        if (result.state === 'passed') count.passed++
        else if (result.state === 'failed') count.failed++
        else {
          count.skipped++
          skips.push(
            `  ${test.fullName}: ${(result.state === 'skipped' && result.note) || 'no reason given'}`,
          )
        }
      }
    }
    if (skips.length > 0) console.log(`\nSkipped, with the reason:\n${skips.join('\n')}`)
    console.log(`\nimago: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`)
  }
}
