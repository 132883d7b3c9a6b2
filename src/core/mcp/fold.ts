/**
 * What a name becomes under every folding that a JSON library or web framework is known to apply to it: letter case
 * (Go's encoding/json, Jackson and .NET options), the two letters outside ASCII that case-fold into it (U+017F, U+212A),
 * fullwidth and other compatibility forms, accents, and characters that do not show (controls, NUL, zero width).
 * Two names with the same fold can be taken for each other by some parser; two names with different folds cannot.
 *
 * @source CVE-2026-27896 (case and U+017F/U+212A), GHSA-q382-vc8q-7jhj (NUL); Unicode Standard Annex 15 (NFKD).
 */
export function foldName(name: string): string {
  if (PLAIN.test(name)) return name.toLowerCase()
  // Upper case first: U+0131 (dotless i) only meets `i` there; the second NFKD catches what lower case takes apart again.
  const bare = name.normalize('NFKD').replace(INVISIBLE, '').toUpperCase().toLowerCase().normalize('NFKD')
  return bare.replace(INVISIBLE, '')
}

const PLAIN = /^[\x20-\x7e]*$/
const INVISIBLE = /[\p{M}\p{C}\p{Default_Ignorable_Code_Point}]/gu

/** Longest name that is folded; the longest name known here is shorter by far, and normalisation is not linear. */
export const LONGEST_FOLDED = 256
