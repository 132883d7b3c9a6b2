import net, { type Socket } from 'node:net'
import { answerFor } from './answers.ts'

/**
 * A stand-in for an MCP server that costs next to nothing, for it shares the cores with what is measured: any call gets a
 * result of its own size at once, and a GET an event stream that says one thing and is silent from then on. Of HTTP/1.1
 * it reads what the peers of the bench send: requests one after the other, their bodies with a length.
 */
function serve(socket: Socket): void {
  let head = ''
  let length = 0
  let left = 0
  socket.on('error', () => socket.destroy())
  socket.on('data', chunk => {
    let at = 0
    while (at < chunk.length) {
      if (left === 0) {
        const before = head.length
        head += chunk.toString('latin1', at)
        const end = head.indexOf('\r\n\r\n')
        if (end < 0) return
        at += end + 4 - before
        const isCall = !head.startsWith('GET ')
        length = left = Number(/\r\ncontent-length: *(\d+)/i.exec(head.slice(0, end))?.[1] ?? 0)
        head = ''
        if (!isCall) socket.write(STREAM)
        if (!isCall || left > 0) continue
      } else {
        const taken = Math.min(left, chunk.length - at)
        at += taken
        left -= taken
      }
      if (left === 0) socket.write(answerTo(length))
    }
  })
}

const STREAM =
  'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n: here\n\n\r\n'

/** Head and body of the answer, made once for each size. */
function answerTo(bytes: number): Buffer {
  let answer = answers.get(bytes)
  if (answer === undefined) {
    const body = answerFor(bytes)
    const head = `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`
    answer = Buffer.concat([Buffer.from(head), body])
    answers.set(bytes, answer)
  }
  return answer
}

const answers = new Map<number, Buffer>()

const server = net.createServer({ noDelay: true }, serve)
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  const address = server.address()
  process.stdout.write(`listening ${typeof address === 'object' ? address?.port : ''}\n`)
})
