/**
 * What a condition answers. A condition that cannot be evaluated (no user to compare with, an argument of another type)
 * is unknown: an allow rule does not match then, and a deny rule does.
 */
export type Truth = typeof NO | typeof UNKNOWN | typeof YES

export const NO = 0
export const UNKNOWN = 1
export const YES = 2
