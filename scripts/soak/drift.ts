/**
 * How much a line through the second half of evenly spaced samples (least squares) rises from its beginning to its end, as
 * a share of where it begins. A heap goes up and down all the time; what only goes up shows in the line.
 */
export function driftOf(samples: readonly number[]): number {
  const half = samples.slice(samples.length >> 1)
  const n = half.length
  if (n < 2) return 0
  const middle = (n - 1) / 2
  const mean = half.reduce((sum, value) => sum + value, 0) / n
  let [above, below] = [0, 0]
  for (const [i, value] of half.entries()) {
    above += (i - middle) * (value - mean)
    below += (i - middle) ** 2
  }
  const slope = above / below
  return (slope * (n - 1)) / (mean - slope * middle)
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN
}
