let second = Number.NaN
let prefix = ''

/** RFC 3339 in UTC with milliseconds; formatting the second anew only when it changes. */
export function isoTime(ms: number): string {
  const whole = Math.floor(ms)
  const thisSecond = Math.floor(whole / 1000)
  if (thisSecond !== second) {
    prefix = new Date(thisSecond * 1000).toISOString().slice(0, 20)
    second = thisSecond
  }
  const rest = whole - thisSecond * 1000
  return `${prefix}${rest < 10 ? '00' : rest < 100 ? '0' : ''}${rest}Z`
}
