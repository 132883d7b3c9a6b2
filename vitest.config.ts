import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 20_000,
    hookTimeout: 20_000,
    reporters:
      process.env['CI'] === 'true'
        ? ['default', './test/support/count-reporter.ts']
        : ['default', './test/support/count-reporter.ts'],
  },
})
