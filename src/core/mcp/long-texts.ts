import type { JsonObject, JsonValue } from '../json.ts'
import type { Scan } from './strict-json.ts'

/**
 * Arguments whose long texts are made from the bytes when they are asked for.
 *
 * A text takes its bytes once more in the heap, and as much again while it is parsed; few ask for one, and while calls
 * wait for their server the collector would move them all. (It is a proxy because V8 keeps getters of each call's own
 * until the next full collection.)
 *
 * @param args  Has `""` in their place.
 * @param scan  Says where they are in `bytes`.
 */
export function withLongTexts(args: JsonObject, bytes: Buffer, scan: Pick<Scan, 'texts' | 'textNames'>): JsonObject {
  return new Proxy(args, new LongTexts(bytes, scan.texts, scan.textNames))
}

class LongTexts implements ProxyHandler<JsonObject> {
  readonly #bytes: Buffer
  readonly #texts: readonly number[]
  readonly #names: readonly number[]

  constructor(bytes: Buffer, texts: readonly number[], names: readonly number[]) {
    this.#bytes = bytes
    this.#texts = texts
    this.#names = names
  }

  get(args: JsonObject, name: string): JsonValue | undefined {
    const value = args[name]
    return value === '' ? (this.#made().get(name)?.text() ?? value) : value
  }

  #made(): Map<string, LongText> {
    const made = lastMade?.deref()
    if (made?.bytes === this.#bytes) return made.texts
    const texts = new Map<string, LongText>()
    for (let i = 0; i < this.#texts.length; i += 2) {
      const name = textAt(this.#bytes, this.#names[i]!, this.#names[i + 1]!)
      texts.set(name, new LongText(this.#bytes, this.#texts[i]!, this.#texts[i + 1]!))
    }
    lastMade = new WeakRef({ bytes: this.#bytes, texts })
    return texts
  }
}

/** Those of the call that was asked last: a policy can ask once for each of its rules. */
let lastMade: WeakRef<{ readonly bytes: Buffer; readonly texts: Map<string, LongText> }> | undefined

class LongText {
  readonly #bytes: Buffer
  readonly #start: number
  readonly #end: number
  #text: string | undefined

  constructor(bytes: Buffer, start: number, end: number) {
    this.#bytes = bytes
    this.#start = start
    this.#end = end
  }

  text(): string {
    this.#text ??= textAt(this.#bytes, this.#start, this.#end)
    return this.#text
  }
}

/**
 * A JSON string as a text. What `JSON.parse` reads from 100 KiB or more V8 puts among the old, where it stays until the
 * next full collection; so long ones are read in pieces.
 */
function textAt(bytes: Buffer, start: number, end: number): string {
  const inner = bytes.subarray(start + 1, end - 1)
  if (!inner.includes(BACKSLASH)) return inner.toString()
  let text = ''
  for (let from = 0; from < inner.length; ) {
    const to = from + PIECE < inner.length ? pieceEnd(inner, from, from + PIECE) : inner.length
    text += JSON.parse(`"${inner.toString('utf8', from, to)}"`) as string
    from = to
  }
  return text
}

/** The end of a piece that begins at `from` and is cut at `at` or a little before, in front of an escape or a character. */
function pieceEnd(inner: Buffer, from: number, at: number): number {
  while ((inner[at]! & 0xc0) === 0x80) at--
  let escape = at - 1
  while (escape > at - LONGEST_ESCAPE && inner[escape] !== BACKSLASH) escape--
  if (inner[escape] !== BACKSLASH) return at
  // A backslash that follows an odd number of others is the second half of an escape.
  let first = escape
  while (first > from && inner[first - 1] === BACKSLASH) first--
  const opening = (escape - first) % 2 === 0 ? escape : escape - 1
  const length = inner[opening + 1] === 0x75 ? LONGEST_ESCAPE : 2
  return opening + length > at ? opening : at
}

const PIECE = 32 * 1024
const BACKSLASH = 0x5c
/** `\u00e9` */
const LONGEST_ESCAPE = 6
