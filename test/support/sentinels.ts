/**
 * Secrets that tell where they were put. Each is made of one block, `s3n7` and a number, three times over: of whatever
 * comes to light 11 characters are enough to know it.
 */
export class Sentinels {
  readonly #places: string[] = []
  #shape = 0

  get size(): number {
    return this.#places.length
  }

  /** A secret that looks like nothing. */
  plain(place: string): string {
    const block = `s3n7${(this.#places.push(place) - 1).toString(36).padStart(4, '0')}`
    return block + block + block
  }

  /** A text with a secret in it that its look or the name before it gives away; each time of another kind. */
  shaped(place: string): string {
    const shape = SHAPES[this.#shape++ % SHAPES.length] as (secret: string) => string
    return shape(this.plain(place))
  }

  /** The same for places that take only letters, digits, `_`, `-` and `.`. */
  word(place: string): string {
    const shape = WORDS[this.#shape++ % WORDS.length] as (secret: string) => string
    return shape(this.plain(place))
  }

  /** Where the secrets that are in a text had been put, in whatever case, percent-encoded or in Base64. */
  placesIn(text: string): Map<string, number> {
    const found = new Map<string, number>()
    const look = (part: string): void => {
      for (const [, number] of part.toLowerCase().matchAll(/s3n7([0-9a-z]{4})/g)) {
        const place = this.#places[Number.parseInt(number as string, 36)] ?? 'nowhere'
        found.set(place, (found.get(place) ?? 0) + 1)
      }
    }
    look(text)
    look(text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))))
    for (const [run] of text.matchAll(/[A-Za-z0-9+/]{24,}/g)) look(Buffer.from(run, 'base64').toString('latin1'))
    return found
  }
}

const base64 = (text: string): string => Buffer.from(text).toString('base64')
const percent = (text: string): string => Buffer.from(text).toString('hex').replace(/../g, '%$&')

const WORDS: readonly ((secret: string) => string)[] = [
  secret => `eyJ${secret}.eyJ${secret}.${secret}`,
  secret => `ghp_${secret}${secret.slice(0, 12)}`,
  secret => `AKIA${secret.toUpperCase()}`,
  secret => `sk-${secret}`,
  secret => `glpat-${secret}`,
]

const SHAPES: readonly ((secret: string) => string)[] = [
  ...WORDS,
  secret => `Bearer ${secret}`,
  secret => `call me with password=${secret} please`,
  secret => `run --api-key ${secret} now`,
  secret => `{"clientSecret": "${secret}"}`,
  secret => `https://ada:${secret}@db.example.org/x`,
  secret => `Authorization: Basic ${base64(`ada:${secret}`)}`,
  secret => `Cookie: sid=${secret}; other=${secret}`,
  secret => `x_token=${percent(secret)}`,
  secret => percent(`Bearer ${secret}`),
  secret => `${secret}@mail.example.org`,
  secret => `-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----`,
]
