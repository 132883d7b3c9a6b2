/**
 * Whether a text is a UUID and nothing else. Such a request id is written as it is: of the digits in random ones, one in
 * several hundred happens to look like a card number, and with a piece of it hidden nobody finds the call in another log.
 *
 * @source RFC 9562 §4 (8-4-4-4-12 hexadecimal digits)
 */
export function isUuid(text: string): boolean {
  if (text.length !== 36) return false
  for (let i = 0; i < 36; i++) if (KIND[text.charCodeAt(i)] !== WANTED[i]) return false
  return true
}

const DASH = 1
const DIGIT = 2
const KIND = new Uint8Array(128)
KIND[0x2d] = DASH
for (const digit of '0123456789abcdefABCDEF') KIND[digit.charCodeAt(0)] = DIGIT
const WANTED = Uint8Array.from('00000000-0000-0000-0000-000000000000', character => (character === '-' ? DASH : DIGIT))
