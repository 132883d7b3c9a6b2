/** One document of a YAML stream, as its bytes: what is not changed is given back exactly as it came. */
export interface Segment {
  readonly text: string
  /** 1-based line of its first line in the stream. */
  readonly line: number
}

/**
 * Cuts a stream before each `---` and after each `...` at the beginning of a line. YAML allows neither inside any
 * content, block scalars included (YAML 1.2 §9.1.4, c-forbidden), so that no parser is needed. Directives stay with
 * the document that they are for. The texts put together are the stream.
 */
export function segmentsOf(stream: string): Segment[] {
  const segments: Segment[] = []
  let start = 0
  let startLine = 1
  let line = 1
  let hasContent = false
  let hasDirective = false
  const cut = (end: number, nextLine: number) => {
    if (end > start) segments.push({ text: stream.slice(start, end), line: startLine })
    start = end
    startLine = nextLine
    hasContent = false
    hasDirective = false
  }
  let at = 0
  while (at < stream.length) {
    const newline = stream.indexOf('\n', at)
    const end = newline < 0 ? stream.length : newline + 1
    if (isMarker(stream, at, '-')) {
      if (hasContent || !hasDirective) cut(at, line)
      hasContent = true
    } else if (isMarker(stream, at, '.')) {
      cut(end, line + 1)
    } else if (stream.charCodeAt(at) === 0x25 && !hasContent) {
      hasDirective = true
    } else if (!isBlankOrComment(stream, at, end)) {
      hasContent = true
    }
    at = end
    line += 1
  }
  cut(stream.length, line)
  return segments
}

function isMarker(text: string, at: number, character: '-' | '.'): boolean {
  if (!text.startsWith(character.repeat(3), at)) return false
  const after = text[at + 3]
  return after === undefined || after === '\n' || after === '\r' || after === ' ' || after === '\t'
}

function isBlankOrComment(text: string, at: number, end: number): boolean {
  for (let index = at; index < end; index += 1) {
    const character = text[index]
    if (character === '#') return true
    if (character !== ' ' && character !== '\t' && character !== '\r' && character !== '\n' && character !== '\ufeff') {
      return false
    }
  }
  return true
}
