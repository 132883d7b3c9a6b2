import { type RequestFault, type RequestHead, RequestReader } from '../../src/core/http1/request-reader.ts'

export interface ReadRequest extends Omit<RequestHead, 'bodyLength'> {
  /** One character for each byte. */
  body: string
  isWhole: boolean
}

/** What the reader makes of bytes that come in these pieces, when every request is answered as soon as it is whole. */
export function readRequests(
  pieces: readonly (string | Buffer)[],
  headLimit = 16 * 1024,
): { requests: ReadRequest[]; fault: RequestFault | undefined } {
  const reader = new RequestReader(headLimit)
  const requests: ReadRequest[] = []
  const parts = {
    head({ method, target, headers, minor, keepAlive, expectsContinue }: RequestHead): void {
      const lines = [...headers]
      requests.push({ method, target, headers: lines, minor, keepAlive, expectsContinue, body: '', isWhole: false })
    },
    data(piece: Buffer): void {
      const last = requests.at(-1)
      if (last === undefined || piece.length === 0) throw new Error('a piece of nothing')
      last.body += piece.toString('latin1')
    },
  }
  for (const piece of pieces) {
    const chunk = typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece
    let at = 0
    while (at < chunk.length) {
      const next = reader.feed(chunk, at, parts)
      if (typeof next !== 'number') return { requests, fault: next }
      if (next < at || next > chunk.length) throw new Error('the reader went astray')
      at = next
      const last = requests.at(-1)
      if (!reader.isWhole || last === undefined) continue
      last.isWhole = true
      reader.next()
    }
  }
  return { requests, fault: undefined }
}
