import { defineConfig } from 'vitest/config'

/** Two projects: `unit` reads and writes bytes only (seconds); `e2e` starts real programs and machines (minutes). */
export default defineConfig({
  test: {
    reporters: ['default', './test/helpers/skip-reporter.ts', './test/helpers/progress-reporter.ts'],
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          testTimeout: process.env.IMAGO_FULL === '1' ? 600_000 : 20_000,
          // One process a processor for all files: to begin anew for each took longer than the tests.
          isolate: false,
          maxWorkers: '100%',
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: process.env.IMAGO_FULL === '1' ? 3_600_000 : 300_000,
          hookTimeout: 300_000,
          fileParallelism: true,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
