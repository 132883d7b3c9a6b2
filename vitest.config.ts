import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    projects: [
      { extends: true, test: { name: 'core', include: ['test/{core,pins}/**/*.test.ts'] } },
      {
        extends: true,
        test: { name: 'wire', include: ['test/wire/**/*.test.ts'], globalSetup: ['test/support/built-program.ts'] },
      },
    ],
    globalSetup: ['test/support/run-folder.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // Nothing is measured by these: they end what hangs, also on a machine that is busy with something else.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ['default', './test/support/count-reporter.ts'],
  },
})
