/** Says whether a whole text is what a pattern describes. Pure, synchronous, safe to keep and share. */
export type Glob = (text: string) => boolean

/**
 * Compiles a pattern in which `*` is any run of characters, the empty one included; everything else is itself.
 * There is no escape: a name with a star in it is matched by a pattern with that star.
 *
 * Matching takes at most the length of the text times the length of the pattern, and never backtracks over a star.
 */
export function compileGlob(pattern: string): Glob {
  const pieces = pattern.split(/\*+/)
  const first = pieces[0] ?? ''
  const last = pieces.at(-1) ?? ''
  if (pieces.length === 1) return text => text === pattern
  if (pieces.length === 2) {
    if (first === '' && last === '') return anything
    if (last === '') return text => text.startsWith(first)
    if (first === '') return text => text.endsWith(last)
    const shortest = first.length + last.length
    return text => text.length >= shortest && text.startsWith(first) && text.endsWith(last)
  }
  const between = pieces.slice(1, -1)
  return text => {
    const end = text.length - last.length
    if (end < first.length || !text.startsWith(first) || !text.endsWith(last)) return false
    let at = first.length
    // Taking each piece where it first occurs leaves the most room for those that follow, so nothing is tried twice.
    for (const piece of between) {
      const found = text.indexOf(piece, at)
      if (found < 0) return false
      at = found + piece.length
    }
    return at <= end
  }
}

/**
 * Compiles a pattern in which `*` is any run of characters within a segment and `**` any run across segments; both
 * may be empty.
 *
 * Matching follows every reading of the pattern at once, so its time is at most the length of the text times the
 * length of the pattern, whatever the two contain.
 *
 * @param separator  The one character that ends a segment: `/` in URIs, `.` in DNS names.
 */
export function compileSegmentGlob(pattern: string, separator: string): Glob {
  if (!pattern.includes('*')) return text => text === pattern
  const tokens = pattern.match(/\*+|[^*]/g) ?? []
  const prefix = pattern.slice(0, pattern.indexOf('*'))
  const isOnlyStar = tokens.length === prefix.length + 1
  if (isOnlyStar) {
    const crosses = tokens.at(-1) !== '*'
    if (crosses) return prefix === '' ? anything : text => text.startsWith(prefix)
    return text => text.startsWith(prefix) && !text.includes(separator, prefix.length)
  }

  // One code for each token after the literal prefix: a UTF-16 unit, or one of the two stars.
  const codes = Int32Array.from(tokens.slice(prefix.length), token =>
    token === '*' ? SEGMENT : token.startsWith('*') ? ACROSS : token.charCodeAt(0),
  )
  const separatorCode = separator.charCodeAt(0)
  // Scratch for the states that are possible; matching is synchronous, so one pair serves every call.
  let now = new Uint8Array(codes.length + 1)
  let next = new Uint8Array(codes.length + 1)

  return text => {
    if (!text.startsWith(prefix)) return false
    now.fill(0)
    now[0] = 1
    let low = 0
    let high = passStars(codes, now, 0)
    for (let at = prefix.length; at < text.length; at++) {
      const unit = text.charCodeAt(at)
      next.fill(0, low, high + 2)
      let nextLow = -1
      let nextHigh = -1
      for (let state = low; state <= high; state++) {
        if (now[state] === 0) continue
        const code = codes[state]
        let to = -1
        if (code === unit) to = state + 1
        else if (code === ACROSS || (code === SEGMENT && unit !== separatorCode)) to = state
        if (to < 0) continue
        next[to] = 1
        if (nextLow < 0) nextLow = to
        const reached = passStars(codes, next, to)
        if (reached > nextHigh) nextHigh = reached
      }
      if (nextLow < 0) return false
      const swap = now
      now = next
      next = swap
      low = nextLow
      high = nextHigh
    }
    return high === codes.length && now[high] === 1
  }
}

const SEGMENT = -1
const ACROSS = -2

/** A star may stand for nothing, so whoever is before it is behind it as well. Returns the last state reached. */
function passStars(codes: Int32Array, states: Uint8Array, from: number): number {
  let state = from
  while ((codes[state] ?? 0) < 0) {
    state++
    states[state] = 1
  }
  return state
}

function anything(): boolean {
  return true
}
