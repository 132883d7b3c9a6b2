/** A JSON-RPC result of about as many bytes as the call had, made once for each size. */
export function answerFor(bytes: number): Buffer {
  const before = answers.get(bytes)
  if (before !== undefined) return before
  const result = { content: [{ type: 'text', text: 'three documents found' }], isError: false }
  const room = bytes - JSON.stringify({ jsonrpc: '2.0', id: 7, result }).length
  if (room > 0) (result.content[0] as { text: string }).text += ' '.repeat(room)
  const answer = Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 7, result }))
  answers.set(bytes, answer)
  return answer
}

const answers = new Map<number, Buffer>()
