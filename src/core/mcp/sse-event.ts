/** The data of a whole event: the values of its `data` lines, joined by LF. */
export function eventData(raw: Buffer): Buffer {
  const values: Buffer[] = []
  for (const line of linesOf(raw)) {
    if (line.valueStart < 0) continue
    if (values.length > 0) values.push(NEWLINE)
    values.push(raw.subarray(line.valueStart, line.end))
  }
  return values.length === 1 ? values[0]! : Buffer.concat(values)
}

/** The same event with other data: in the place of its first `data` line, with that line's ending. */
export function withData(raw: Buffer, data: Buffer): Buffer {
  const pieces: Buffer[] = []
  let isWritten = false
  for (const line of linesOf(raw)) {
    if (line.valueStart < 0) pieces.push(raw.subarray(line.start, line.next))
    else if (!isWritten) {
      isWritten = true
      const ending = line.next > line.end ? raw.subarray(line.end, line.next) : NEWLINE
      for (const text of splitLines(data)) pieces.push(DATA, text, ending)
    }
  }
  return Buffer.concat(pieces)
}

/** An event of the default type that carries one JSON-RPC message. */
export function messageEvent(message: Buffer): Buffer {
  return Buffer.concat([DATA, message, NEWLINE, NEWLINE])
}

interface Line {
  readonly start: number
  /** Index behind the text of the line, and behind its ending. */
  readonly end: number
  readonly next: number
  /** Where the value of a `data` field begins; -1 for every other line. */
  readonly valueStart: number
}

function linesOf(raw: Buffer): Line[] {
  const lines: Line[] = []
  let start = raw[0] === 0xef && raw[1] === 0xbb && raw[2] === 0xbf ? 3 : 0
  if (start === 3) lines.push({ start: 0, end: 3, next: 3, valueStart: -1 })
  let cr = raw.indexOf(0x0d, start)
  while (start < raw.length) {
    if (cr >= 0 && cr < start) cr = raw.indexOf(0x0d, start)
    const lf = cr < 0 ? raw.indexOf(0x0a, start) : raw.subarray(start, cr).indexOf(0x0a) + start
    const end = lf >= start ? lf : cr >= 0 ? cr : raw.length
    const next = Math.min(raw.length, end + (raw[end] === 0x0d && raw[end + 1] === 0x0a ? 2 : 1))
    lines.push({ start, end, next, valueStart: dataValue(raw, start, end) })
    start = next
  }
  return lines
}

function dataValue(raw: Buffer, start: number, end: number): number {
  if (end - start < 4 || raw.toString('latin1', start, start + 4) !== 'data') return -1
  if (end === start + 4) return end
  if (raw[start + 4] !== 0x3a) return -1
  return raw[start + 5] === 0x20 && start + 5 < end ? start + 6 : start + 5
}

function splitLines(data: Buffer): Buffer[] {
  const lines: Buffer[] = []
  let start = 0
  for (let lf = data.indexOf(0x0a); lf >= 0; lf = data.indexOf(0x0a, start)) {
    lines.push(data.subarray(start, lf))
    start = lf + 1
  }
  lines.push(data.subarray(start))
  return lines
}

const DATA = Buffer.from('data: ')
const NEWLINE = Buffer.from('\n')
