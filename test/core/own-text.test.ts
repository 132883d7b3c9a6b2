import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { ownText } from '../../src/core/own-text.ts'

test.each(['', 'a', 'X-User-ID', 'the name of a header that is longer than thirteen', '\u{1f980} and \ud800'])(
  '%j stays the same',
  text => {
    expect(ownText(text)).toBe(text)
  },
)

test('what was cut from large texts does not keep them', () => {
  const script = `
    import { ownText } from '${new URL('../../src/core/own-text.ts', import.meta.url).href}'
    const kept = []
    for (let i = 0; i < 2000; i++) {
      const head = Buffer.alloc(64 * 1024, 'x').latin1Slice()
      kept.push(ownText(head.slice(i, i + 40)))
    }
    gc()
    console.log(process.memoryUsage().heapUsed)
  `
  const used = execFileSync(process.execPath, ['--expose-gc', '--input-type=module', '--eval', script], {
    encoding: 'utf8',
  })
  expect(Number(used)).toBeLessThan(32 * 1024 * 1024)
})
