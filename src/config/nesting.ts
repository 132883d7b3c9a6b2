/**
 * Whether a YAML text could be nested deeper than so many levels: more brackets open at once, more indentation, or more
 * compact list dashes in a row than that. It over-counts (brackets in quotes count too), which only matters far beyond
 * what anybody writes, and takes one pass.
 */
export function isDeeperThan(text: string, levels: number): boolean {
  let open = 0
  let column = 0
  let compact = 0
  let isLead = true
  for (let index = 0; index < text.length; index++) {
    const char = text[index]
    if (char === '\n') {
      column = 0
      compact = 0
      isLead = true
      continue
    }
    if (isLead) {
      if (char === '-' || char === '?' || char === ':') compact++
      else if (char !== ' ' && char !== '\t') isLead = false
      if (compact > levels || ++column > 8 * levels) return true
    }
    if (char === '[' || char === '{') {
      if (++open > levels) return true
    } else if (char === ']' || char === '}') {
      open = Math.max(0, open - 1)
    }
  }
  return false
}
