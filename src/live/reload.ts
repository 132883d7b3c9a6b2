import type { Result } from '../core/result.ts'
import type { Live } from './live.ts'

export interface ReloadReport<E> {
  loaded(what: string, generation: number): void
  kept(what: string, generation: number, why: E): void
}

/** Read → parse → validate → publish. Any failure leaves the previous generation serving and says so. */
export async function reload<T, E>(
  what: string,
  live: Live<T>,
  load: () => Promise<Result<T, E>>,
  report: ReloadReport<E>,
): Promise<void> {
  const next = await load()
  if (!next.ok) return report.kept(what, live.current().generation, next.error)
  report.loaded(what, live.publish(next.value).generation)
}
