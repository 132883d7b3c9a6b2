/**
 * Counters and histograms that cost a map look-up and an addition for each call; the registry asks for their values only
 * when somebody scrapes. Label values are joined to a key once, when a series is first met.
 */
export interface Sample {
  readonly labels: Record<string, string | number>
  readonly value: number
  readonly metricName?: string
  readonly exemplar?: Exemplar | null
}

/** As prom-client's OpenMetrics writer takes it: the timestamp is in seconds. */
export interface Exemplar {
  readonly labelSet: Record<string, string>
  readonly value: number
  readonly timestamp: number
}

export interface Metric {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  /** @param withExemplars  For OpenMetrics, the only format that has them. */
  samples(withExemplars: boolean): Sample[]
}

export class Counts implements Metric {
  readonly type = 'counter'
  readonly name: string
  readonly help: string
  readonly #labelNames: readonly string[]
  readonly #values = new Map<string, number>()

  constructor(name: string, help: string, labelNames: readonly string[]) {
    this.name = name
    this.help = help
    this.#labelNames = labelNames
  }

  /** @param key  Label values in the order of the names, joined by `SEPARATOR`. */
  add(key: string, by = 1): void {
    this.#values.set(key, (this.#values.get(key) ?? 0) + by)
  }

  samples(): Sample[] {
    // A counter without labels exists from the beginning, so that its first increase is seen as one.
    if (this.#labelNames.length === 0 && this.#values.size === 0) return [{ labels: {}, value: 0 }]
    return Array.from(this.#values, ([key, value]) => ({ labels: labelsOf(this.#labelNames, key), value }))
  }
}

export class Durations implements Metric {
  readonly type = 'histogram'
  readonly name: string
  readonly help: string
  readonly #labelNames: readonly string[]
  readonly #bounds: readonly number[]
  readonly #series = new Map<string, Series>()

  /** @param bounds  Upper bounds of the buckets in seconds, ascending, without +Inf. */
  constructor(name: string, help: string, labelNames: readonly string[], bounds: readonly number[]) {
    this.name = name
    this.help = help
    this.#labelNames = labelNames
    this.#bounds = bounds
  }

  /** @param traceId  Kept with the bucket as its exemplar. */
  observe(key: string, seconds: number, traceId: string | undefined, nowMs: number): void {
    let series = this.#series.get(key)
    if (series === undefined) {
      const size = this.#bounds.length + 1
      series = { counts: new Float64Array(size), sum: 0, traces: new Array(size), values: [], times: [] }
      this.#series.set(key, series)
    }
    let bucket = 0
    while (bucket < this.#bounds.length && seconds > (this.#bounds[bucket] as number)) bucket++
    series.counts[bucket] = (series.counts[bucket] as number) + 1
    series.sum += seconds
    if (traceId !== undefined) {
      series.traces[bucket] = traceId
      series.values[bucket] = seconds
      series.times[bucket] = nowMs
    }
  }

  samples(withExemplars: boolean): Sample[] {
    const samples: Sample[] = []
    for (const [key, series] of this.#series) {
      const labels = labelsOf(this.#labelNames, key)
      let total = 0
      for (let bucket = 0; bucket <= this.#bounds.length; bucket++) {
        total += series.counts[bucket] as number
        const le = this.#bounds[bucket] ?? '+Inf'
        const exemplar = withExemplars ? exemplarOf(series, bucket) : null
        samples.push({ labels: { le, ...labels }, value: total, metricName: `${this.name}_bucket`, exemplar })
      }
      samples.push({ labels, value: series.sum, metricName: `${this.name}_sum` })
      samples.push({ labels, value: total, metricName: `${this.name}_count` })
    }
    return samples
  }
}

/** A value, or a value for each set of labels, that is read when somebody scrapes. */
export class Reading implements Metric {
  readonly name: string
  readonly help: string
  readonly type: 'gauge' | 'counter'
  readonly #read: () => Sample[] | number | undefined

  constructor(
    name: string,
    help: string,
    read: () => Sample[] | number | undefined,
    type: 'gauge' | 'counter' = 'gauge',
  ) {
    this.name = name
    this.help = help
    this.type = type
    this.#read = read
  }

  samples(): Sample[] {
    const read = this.#read()
    return typeof read === 'number' ? [{ labels: {}, value: read }] : (read ?? [])
  }
}

/** Stands between label values; it cannot be part of one, for they are cleaned before they get here. */
export const SEPARATOR = '\u0000'

interface Series {
  /** Not cumulative; the last is +Inf. */
  readonly counts: Float64Array
  sum: number
  readonly traces: (string | undefined)[]
  readonly values: number[]
  readonly times: number[]
}

function exemplarOf(series: Series, bucket: number): Exemplar | null {
  const traceId = series.traces[bucket]
  if (traceId === undefined) return null
  return {
    labelSet: { trace_id: traceId },
    value: series.values[bucket] as number,
    timestamp: (series.times[bucket] as number) / 1000,
  }
}

function labelsOf(names: readonly string[], key: string): Record<string, string> {
  const values = key.split(SEPARATOR)
  return Object.fromEntries(names.map((name, i) => [name, values[i] ?? '']))
}
