/**
 * Whether a text is a UUID or a `traceparent` and nothing else. Such an id is written as it is: of the digits in random
 * ones, one in several hundred happens to look like a card number, and with a piece of it hidden nobody finds the call in
 * another log.
 *
 * @source RFC 9562 §4 (8-4-4-4-12 hexadecimal digits); W3C Trace Context §3.2.2 (2-32-16-2)
 */
export function isTraceId(text: string): boolean {
  if (text.length === 36) return isHexBut(text, 8, 13, 18, 23)
  return text.length === 55 && isHexBut(text, 2, 35, 52, 52)
}

/** Hexadecimal digits with dashes at exactly these places. */
function isHexBut(text: string, a: number, b: number, c: number, d: number): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (i === a || i === b || i === c || i === d) {
      if (code !== 0x2d) return false
    } else if (!((code >= 0x30 && code <= 0x39) || (code >= 0x61 && code <= 0x66) || (code >= 0x41 && code <= 0x46))) {
      return false
    }
  }
  return true
}
