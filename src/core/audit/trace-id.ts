/**
 * Whether a text is a UUID or a `traceparent` and nothing else. Such an id is written as it is: of the digits in random
 * ones, one in several hundred happens to look like a card number, and with a piece of it hidden nobody finds the call in
 * another log.
 *
 * @source RFC 9562 §4 (8-4-4-4-12 hexadecimal digits); W3C Trace Context §3.2.2 (2-32-16-2)
 */
export function isTraceId(text: string): boolean {
  switch (text.length) {
    case 36:
      return (
        isHex(text, 0, 8) &&
        isGroup(text, 8, 13) &&
        isGroup(text, 13, 18) &&
        isGroup(text, 18, 23) &&
        isGroup(text, 23, 36)
      )
    case 55:
      return isHex(text, 0, 2) && isGroup(text, 2, 35) && isGroup(text, 35, 52) && isGroup(text, 52, 55)
    default:
      return false
  }
}

/** A dash and hexadecimal digits to the end. */
function isGroup(text: string, from: number, to: number): boolean {
  return text.charCodeAt(from) === 0x2d && isHex(text, from + 1, to)
}

function isHex(text: string, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (HEX[text.charCodeAt(i)] !== 1) return false
  return true
}

const HEX = new Uint8Array(128)
for (const digit of '0123456789abcdefABCDEF') HEX[digit.charCodeAt(0)] = 1
