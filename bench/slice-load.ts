import { createInterface } from 'node:readline'
import { callBody, connectHttp1, connectHttp2, type LoadOptions, type Wire } from './load.ts'

/**
 * Load in slices, from a process of its own: keep-alive connections with one call at a time on each, as `load.ts` makes
 * them, that go when stdin says `go MS` and rest when the time is over. Then one line, the number of calls, when the
 * last answer is there: nothing is left for the next slice.
 *
 * argv: JSON of `LoadOptions`, of which what concerns time is ignored.
 */
async function main(options: LoadOptions): Promise<void> {
  const body = Buffer.from(callBody(7, options.bodyBytes))
  const connect = options.isHttp2 ? connectHttp2 : connectHttp1
  const wires: Wire[] = []
  let isOver = true
  let calls = 0
  let open = 0
  for (let i = 0; i < options.connections; i++) {
    const wire: Wire = await connect(options, body, isGood => {
      if (!isGood) throw new Error('a call went wrong')
      calls += 1
      if (!isOver) return wire.send()
      open -= 1
      if (open === 0) process.stdout.write(`${calls}\n`)
    })
    wires.push(wire)
  }
  process.stdout.write('ready\n')
  for await (const line of createInterface(process.stdin)) {
    calls = 0
    isOver = false
    open = wires.length
    setTimeout(() => (isOver = true), Number(line.split(' ')[1]))
    for (const wire of wires) wire.send()
  }
  for (const wire of wires) wire.destroy()
}

await main(JSON.parse(process.argv[2] ?? '{}') as LoadOptions)
