import type { Reporter, TestModule } from 'vitest/node'
import { isInstalled, PROGRAMS } from './programs.ts'

/** Ends the run with what was skipped and why, and with one line that counts the tests. */
export default class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const count = { passed: 0, failed: 0, skipped: 0 }
    const skipped: string[] = []
    for (const module of modules) {
      const tests = [...module.children.allTests()]
      if (module.state() === 'failed' && tests.length === 0) count.failed++
      const before = count.skipped
      for (const test of tests) {
        const { state } = test.result()
        if (state !== 'pending') count[state]++
      }
      if (count.skipped > before) skipped.push(`  ${module.relativeModuleId}: ${count.skipped - before}`)
    }
    const missing = PROGRAMS.filter(program => !isInstalled(program))
    if (missing.length > 0) say(`\nNot installed, so what needs them is skipped: ${missing.join(', ')}`)
    if (skipped.length > 0) say(`\nSkipped tests:\n${skipped.join('\n')}`)
    say(`\n${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`)
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}
