/**
 * Counters and histograms that cost look-ups by strings that are there already, and an addition, for each call; the
 * registry asks for their values only when somebody scrapes. Label values are joined to a key once, when a series is
 * first met: a key made for each call would have to be hashed for each call.
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
  readonly #counters = new Map<string, Counter>()

  constructor(name: string, help: string, labelNames: readonly string[]) {
    this.name = name
    this.help = help
    this.#labelNames = labelNames
  }

  /** The counter of a series, to be kept by whoever counts often; label values in the order of the names. */
  counter(...labels: readonly string[]): Counter {
    const key = labels.join(SEPARATOR)
    let counter = this.#counters.get(key)
    if (counter === undefined) {
      counter = { value: 0 }
      this.#counters.set(key, counter)
    }
    return counter
  }

  samples(): Sample[] {
    // A counter without labels exists from the beginning, so that its first increase is seen as one.
    if (this.#labelNames.length === 0 && this.#counters.size === 0) return [{ labels: {}, value: 0 }]
    return Array.from(this.#counters, ([key, { value }]) => ({ labels: labelsOf(this.#labelNames, key), value }))
  }
}

export interface Counter {
  value: number
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

  /** One series, to be kept by whoever observes often; label values in the order of the names. */
  series(...labels: readonly string[]): Series {
    const key = labels.join(SEPARATOR)
    let series = this.#series.get(key)
    if (series === undefined) {
      series = new Series(this.#bounds)
      this.#series.set(key, series)
    }
    return series
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

/** Remembers what belongs to a pair of label values, so that nothing is joined for each call. */
export class ByPair<V> {
  readonly #make: (one: string, other: string) => V
  readonly #known = new Map<string, Map<string, V>>()

  constructor(make: (one: string, other: string) => V) {
    this.#make = make
  }

  of(one: string, other: string): V {
    let others = this.#known.get(one)
    if (others === undefined) {
      others = new Map()
      this.#known.set(one, others)
    }
    let value = others.get(other)
    if (value === undefined) {
      value = this.#make(one, other)
      others.set(other, value)
    }
    return value
  }
}

/** Stands between label values; it cannot be part of one, for they are cleaned before they get here. */
const SEPARATOR = '\u0000'

export class Series {
  readonly #bounds: readonly number[]
  /** Not cumulative; the last is +Inf. */
  readonly counts: Float64Array
  sum = 0
  readonly traces: (string | undefined)[]
  readonly values: number[] = []
  readonly times: number[] = []

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds
    this.counts = new Float64Array(bounds.length + 1)
    this.traces = new Array(bounds.length + 1)
  }

  /** @param traceId  Kept with the bucket as its exemplar. */
  observe(seconds: number, traceId: string | undefined, nowMs: number): void {
    let bucket = 0
    while (bucket < this.#bounds.length && seconds > (this.#bounds[bucket] as number)) bucket++
    this.counts[bucket] = (this.counts[bucket] as number) + 1
    this.sum += seconds
    if (traceId === undefined) return
    this.traces[bucket] = traceId
    this.values[bucket] = seconds
    this.times[bucket] = nowMs
  }
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
