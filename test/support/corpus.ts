import { readdirSync, readFileSync } from 'node:fs'

/** One raw request of the published corpus; `test/corpus/README.md` says what the members mean. */
export interface CorpusRequest {
  readonly name: string
  readonly why: string
  readonly headers: readonly (readonly [string, string])[]
  readonly body?: string
  readonly base64?: string
  readonly limits?: { readonly depth: number; readonly batch: number; readonly keys?: number }
  /** `read`, or the reason of the refusal. */
  readonly verdict: string
  readonly reads?: {
    readonly method?: string
    readonly methods?: readonly string[]
    readonly id?: string | number
    readonly era?: string
    readonly version?: string
    /** `kind name`; for resources the normalised URI. */
    readonly objects?: readonly string[]
    readonly taskIds?: readonly string[]
  }
}

const DIRECTORY = new URL('../corpus/', import.meta.url)

/** Every request, by the file that it is in. */
export function readCorpus(): Map<string, CorpusRequest[]> {
  const files = readdirSync(DIRECTORY).filter(file => file.endsWith('.json'))
  return new Map(
    files.map(file => [file, JSON.parse(readFileSync(new URL(file, DIRECTORY), 'utf8')) as CorpusRequest[]]),
  )
}

/** The body of a request, as bytes. */
export function bodyOf(request: CorpusRequest): Buffer {
  return request.base64 === undefined ? Buffer.from(request.body ?? '') : Buffer.from(request.base64, 'base64')
}
