// Loaded before the sidecar: its wall clock is as far off as the file says, in ms. The monotonic clock is not touched.
import { readFileSync } from 'node:fs'

const { now } = Date
const RealDate = Date
let offset = 0
setInterval(() => {
  try {
    offset = Number(readFileSync(process.env.CHAOS_CLOCK, 'utf8')) || 0
  } catch {}
}, 50).unref()
Date.now = () => now() + offset
globalThis.Date = new Proxy(RealDate, {
  construct: (target, args) => (args.length === 0 ? new target(now() + offset) : Reflect.construct(target, args)),
})
