/**
 * The text that a string of JSON spells, from between its quotes. Where that is no JSON it stays as it is written.
 *
 * @param isCut  We have cut it, so that it may end within an escape: then it ends before that.
 */
export function unescaped(text: string, isCut: boolean): string {
  // Not left to `JSON.parse` to find out: an answer can be full of such strings, and each would make an error.
  const right = (RIGHT.exec(text) as RegExpExecArray)[0]
  if (right.length < text.length && !(isCut && HALF_ESCAPE.test(text.slice(right.length)))) return text
  return JSON.parse(`"${right}"`) as string
}

/** The number that up to nine digits spell; -1 for everything else. */
export function smallInteger(bytes: Buffer, start: number, end: number): number {
  if (end - start > 9) return -1
  let value = 0
  for (let i = start; i < end; i++) {
    const digit = bytes[i]! - 0x30
    if (digit < 0 || digit > 9) return -1
    value = value * 10 + digit
  }
  return value
}

/** RFC 8259 §7. Not anchored at its end, so that it never goes back: what stands before the first fault. */
const RIGHT = /^(?:[^"\\\u0000-\u001f]+|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*/
const HALF_ESCAPE = /^\\(?:u[0-9a-fA-F]{0,3})?$/
