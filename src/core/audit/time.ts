import { ownText } from '../own-text.ts'

let second = Number.NaN
let prefix = ''
let lastMs = Number.NaN
let last = ''

/** RFC 3339 in UTC with milliseconds; formatting anew only what has changed since the last time. */
export function isoTime(ms: number): string {
  const whole = Math.floor(ms)
  if (whole === lastMs) return last
  const thisSecond = Math.floor(whole / 1000)
  if (thisSecond !== second) {
    prefix = ownText(new Date(thisSecond * 1000).toISOString().slice(0, 20))
    second = thisSecond
  }
  const rest = whole - thisSecond * 1000
  last = `${prefix}${rest < 10 ? '00' : rest < 100 ? '0' : ''}${rest}Z`
  lastMs = whole
  return last
}
