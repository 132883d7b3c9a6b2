/**
 * One pass over a text that says whether it needs a closer look. Most texts of most calls do not, so this pass is what
 * redaction costs: two table look-ups for each character, whatever the number of words.
 */
export type TriggerScan = (text: string) => Look

export type Look =
  /** Harmless, and plain ASCII that JSON writes as it is. */
  | 0
  /** Harmless, and something in it has to be escaped. */
  | 1
  /** Holds a word that a secret has, or as many digits as a card. */
  | 2

/**
 * Builds the automaton of Aho and Corasick (1975) over ASCII for the words.
 *
 * @param words       Non-empty ASCII; both cases of a letter match.
 * @param digitsInRow A run of that many digits, dashes, dots and spaces aside, asks for a closer look as well.
 */
export function compileTriggerScan(words: readonly string[], digitsInRow: number): TriggerScan {
  const table = automaton(words)
  return text => {
    let state = 0
    let digits = 0
    let escapes: 0 | 1 = 0
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i)
      if (code > 0x7e) {
        state = 0
        escapes = 1
        continue
      }
      state = table[(state << 7) | code] as number
      if (state === FOUND) return 2
      const kind = KIND[code] as number
      if (kind === DIGIT) {
        if (++digits >= digitsInRow) return 2
      } else if (kind !== SEPARATOR) {
        digits = 0
        if (kind === ESCAPED) escapes = 1
      }
    }
    return escapes
  }
}

const FOUND = 0xffff
const DIGIT = 1
const SEPARATOR = 2
const ESCAPED = 3

const KIND = Uint8Array.from({ length: 128 }, (_, code) => {
  if (code >= 0x30 && code <= 0x39) return DIGIT
  if (code === 0x20 || code === 0x2d || code === 0x2e) return SEPARATOR
  return code < 0x20 || code === 0x22 || code === 0x5c ? ESCAPED : 0
})

function automaton(words: readonly string[]): Uint16Array {
  // The trie first: next[state] maps a lower-case character to the state that follows it.
  const next: Map<number, number>[] = [new Map()]
  const found = [false]
  for (const word of words) {
    let state = 0
    for (const character of word.toLowerCase()) {
      const code = character.charCodeAt(0)
      let to = next[state]?.get(code)
      if (to === undefined) {
        to = next.push(new Map()) - 1
        found.push(false)
        next[state]?.set(code, to)
      }
      state = to
    }
    found[state] = true
  }

  // Shorter words first, so that the row to which one falls back is there when it is needed.
  const table = new Uint16Array(next.length << 7)
  const fallback = new Uint16Array(next.length)
  const queue: number[] = [0]
  for (let at = 0; at < queue.length; at++) {
    const state = queue[at] as number
    const row = state << 7
    if (state !== 0) {
      const from = (fallback[state] as number) << 7
      table.copyWithin(row, from, from + 128)
    }
    for (const [code, to] of next[state] as Map<number, number>) {
      const elsewhere = table[row | code] as number
      if (elsewhere === FOUND) found[to] = true
      else fallback[to] = elsewhere
      table[row | code] = table[row | upperCase(code)] = found[to] ? FOUND : to
      queue.push(to)
    }
  }
  return table
}

function upperCase(code: number): number {
  return code >= 0x61 && code <= 0x7a ? code - 0x20 : code
}
