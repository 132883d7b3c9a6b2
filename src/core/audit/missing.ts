/** Sequence numbers that have not been met, as ranges in ascending order. */
export class Missing {
  #ranges: { from: number; to: number; place: PlaceOfGap | undefined }[] = []

  /** @param from  Greater than every number that was added before. */
  add(from: number, to: number): void {
    this.#ranges.push({ from, to, place: undefined })
  }

  /** Where it showed that the range beginning with `from` is missing. */
  placeOf(from: number, place: PlaceOfGap): void {
    const range = this.#ranges.findLast(candidate => candidate.from === from)
    if (range !== undefined) range.place = place
  }

  /** Takes one number out; false when it is not among them. */
  take(seq: number): boolean {
    const at = this.#ranges.findIndex(({ from, to }) => from <= seq && seq <= to)
    const range = this.#ranges[at]
    if (range === undefined) return false
    const rest = [
      { ...range, to: seq - 1 },
      { ...range, from: seq + 1 },
    ].filter(({ from, to }) => from <= to)
    this.#ranges.splice(at, 1, ...rest)
    return true
  }

  ranges(): readonly { readonly from: number; readonly to: number; readonly place: PlaceOfGap | undefined }[] {
    return this.#ranges
  }
}

interface PlaceOfGap {
  readonly file: string
  readonly line: number
}
