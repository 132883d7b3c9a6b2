/** Polls until `check` returns something truthy, and fails with what it last threw or returned. */
export async function eventually<T>(check: () => T | Promise<T>, withinMs = 5000): Promise<NonNullable<T>> {
  const deadline = Date.now() + withinMs
  let last: unknown
  for (;;) {
    try {
      const value = await check()
      if (value) return value
      last = value
    } catch (error) {
      last = error
    }
    if (Date.now() > deadline) {
      if (last instanceof Error) throw last
      throw new Error(`not so within ${withinMs} ms, last seen: ${String(last)}`)
    }
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}
