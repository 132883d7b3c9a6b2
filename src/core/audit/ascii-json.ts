/**
 * Text as JSON that is pure ASCII, within a bound of bytes.
 *
 * Every audit line is ASCII: control characters, line separators, bidirectional overrides and whatever else a hostile
 * name may carry are `\u` escapes, and the length of a line in characters is its length in bytes, so that `maxLine` can
 * be kept by plain arithmetic.
 *
 * @source RFC 8259 §7 (escapes); a lone surrogate is written as its escape.
 */
export class AsciiJson {
  /** Something was left out since this was last set to false. */
  truncated = false

  /** A JSON string of at most `maxBytes` (at least 8), quotes included; what does not fit is cut and marked. */
  string(text: string, maxBytes: number): string {
    if (text.length + 2 <= maxBytes && PLAIN.test(text)) return `"${text}"`
    return this.#escaped(text, maxBytes)
  }

  #escaped(text: string, maxBytes: number): string {
    if (text.length + 2 <= maxBytes) {
      const whole = JSON.stringify(text).replace(BEYOND_ASCII, escapeUnit)
      if (whole.length <= maxBytes) return whole
    }
    this.truncated = true
    const room = maxBytes - 2 - CUT.length
    const front = text.slice(0, room)
    if (PLAIN.test(front)) return `"${front}${CUT}"`
    let out = ''
    for (const character of text) {
      const escaped = PLAIN.test(character)
        ? character
        : JSON.stringify(character).slice(1, -1).replace(BEYOND_ASCII, escapeUnit)
      if (out.length + escaped.length > room) break
      out += escaped
    }
    return `"${out}${CUT}"`
  }
}

/** Marks a string that was cut. */
const CUT = '[cut]'
const PLAIN = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/
const BEYOND_ASCII = /[\x7f-\uffff]/g

function escapeUnit(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
}
