import { ownText } from '../own-text.ts'
import { isoTime } from './time.ts'

/*
 * Pieces of a line that are the same for most calls. A line is put together from pieces, and what it costs goes by their
 * number: to add each, and to copy each when the whole is hashed. So what stays the same is one piece.
 */

export const OPENING = '{"timestamp":"'

let lastEvent = ''
let afterTime = ''

/** How each line begins; the time is the first and has a fixed length. */
export function opening(event: string, atMs: number): string {
  if (event !== lastEvent) {
    afterTime = ownText(`","kind":"audit","event":"${event}"`)
    lastEvent = event
  }
  return OPENING + isoTime(atMs) + afterTime
}

let lastOutcome = ''
let lastStatus = -1
let lastEnding = ''

/** How it ended. */
export function ending(outcome: string, status: number): string {
  if (outcome !== lastOutcome || status !== lastStatus) {
    lastEnding = ownText(status > 0 ? `,"outcome":"${outcome}","status":${status}` : `,"outcome":"${outcome}"`)
    lastOutcome = outcome
    lastStatus = status
  }
  return lastEnding
}

/** Milliseconds with three decimals; put together from integers, because printing a double costs more than a hash. */
export function micros(ms: number): string {
  const whole = Math.max(0, Math.round(ms * 1000))
  const rest = whole % 1000
  return `${(whole - rest) / 1000}.${rest < 10 ? '00' : rest < 100 ? '0' : ''}${rest}`
}
