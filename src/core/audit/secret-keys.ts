/**
 * Says which names announce a secret: a name matches when its words contain the words of a listed key, in order and
 * side by side. Words end at case changes and at everything that is not a letter or a digit, so that `accessToken`,
 * `client-secret`, `X_API_KEY` and `apikey` match `token`, `secret` and `api key`; a plural matches too.
 */
export interface SecretKeys {
  matches(name: string): boolean
  readonly isEmpty: boolean
}

export function compileSecretKeys(listed: readonly string[]): SecretKeys {
  const phrases = listed.map(key => wordsOf(key)).filter(words => words.length > 0)
  const known = new Map<string, boolean>()

  function judge(name: string): boolean {
    const words = wordsOf(name)
    for (const phrase of phrases) {
      if (phrase.length > 1 && containsWord(words, phrase.join(''))) return true
      for (let at = 0; at + phrase.length <= words.length; at++) {
        if (phrase.every((word, i) => sameWord(words[at + i] as string, word))) return true
      }
    }
    return false
  }

  return {
    isEmpty: phrases.length === 0,
    matches(name) {
      // A longer name is no name; its beginning and end decide.
      const bounded = name.length <= MAX_NAME ? name : `${name.slice(0, MAX_NAME / 2)} ${name.slice(-MAX_NAME / 2)}`
      const before = known.get(bounded)
      if (before !== undefined) return before
      const verdict = judge(bounded)
      // Names come from callers: the memory is bounded by starting anew.
      if (known.size >= MAX_KNOWN) known.clear()
      known.set(bounded, verdict)
      return verdict
    },
  }
}

const MAX_NAME = 256
const MAX_KNOWN = 2048

function wordsOf(name: string): string[] {
  // Compatibility forms, accents and invisible characters would otherwise hide a word from the comparison.
  const plain = ASCII.test(name) ? name : name.normalize('NFKD').replace(INVISIBLE, '')
  return (
    plain
      .replace(/([\p{Ll}\d])(\p{Lu})/gu, '$1 $2')
      // `APIKey` is two words; the last letter of `KEYs` is its plural.
      .replace(/(\p{Lu})(\p{Lu}(?!s(?!\p{Ll}))\p{Ll})/gu, '$1 $2')
      .toLowerCase()
      .split(/[^\p{L}\p{N}]+/u)
      .filter(word => word !== '')
  )
}

const ASCII = /^[\x20-\x7e]*$/
const INVISIBLE = /[\p{Default_Ignorable_Code_Point}\p{M}]/gu

function containsWord(words: readonly string[], word: string): boolean {
  return words.some(candidate => sameWord(candidate, word))
}

/** `tokens`, `token2` and `token` are the same word. */
function sameWord(candidate: string, word: string): boolean {
  if (!candidate.startsWith(word)) return false
  return candidate.length === word.length || /^s?\d*$/.test(candidate.slice(word.length))
}
