/** The first value of a header in a flat list `[name, value, …]`; `name` in lower case. */
export function headerOf(headers: readonly string[], name: string): string | undefined {
  for (let i = 0; i < headers.length; i += 2) {
    const spelt = headers[i] as string
    if (spelt.length === name.length && spelt.toLowerCase() === name) return headers[i + 1]
  }
  return undefined
}
