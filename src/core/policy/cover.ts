import type { Pattern } from './pattern.ts'
import { type CompiledRule, namesObjects, type PeerPattern } from './rule.ts'

/**
 * Whether one rule surely matches whenever another does. False may mean that we cannot tell; true is certain.
 */
export function covers(wide: CompiledRule, narrow: CompiledRule): boolean {
  if (wide.args.length > 0) return false
  return (
    coversObjects(wide, narrow) &&
    coversAny(wide.methods, narrow.methods, 'word') &&
    coversPeers(wide.peers, narrow.peers) &&
    coversAny(wide.users, narrow.users, 'word') &&
    coversAny(wide.orgs, narrow.orgs, 'word') &&
    coversAny(wide.roles, narrow.roles, 'word') &&
    // All scopes are needed: each that the wide rule asks for must follow from one that the narrow rule asks for.
    (wide.scopes ?? []).every(scope => narrow.scopes?.some(held => takesAll(scope, held, 'word')))
  )
}

function coversObjects(wide: CompiledRule, narrow: CompiledRule): boolean {
  if (!namesObjects(narrow)) return !namesObjects(wide)
  if (!namesObjects(wide)) return wide.effect === 'deny'
  return (['tools', 'prompts', 'resources'] as const).every(
    list =>
      narrow[list] === undefined ||
      (wide[list] !== undefined && coversAny(wide[list], narrow[list], list === 'resources' ? 'segment' : 'word')),
  )
}

function coversAny(
  wide: readonly Pattern[] | undefined,
  narrow: readonly Pattern[] | undefined,
  kind: 'word' | 'segment',
): boolean {
  if (wide === undefined) return true
  return narrow?.every(one => wide.some(pattern => takesAll(pattern, one, kind))) ?? false
}

/** A text in which each star is something that only a star can take up: a pattern that matches it matches whatever. */
function takesAll(wide: Pattern, narrow: Pattern, kind: 'word' | 'segment'): boolean {
  const worst = narrow.text.replace(/\*+/g, stars =>
    kind === 'segment' && stars.length > 1 ? '\u0000/\u0000' : '\u0000',
  )
  return wide.matches(worst)
}

function coversPeers(wide: readonly PeerPattern[] | undefined, narrow: readonly PeerPattern[] | undefined): boolean {
  if (wide === undefined) return true
  const kind = { name: 'word', uri: 'segment' } as const
  const isCovered = (one: PeerPattern) =>
    wide.some(({ of, pattern }) => of === one.of && takesAll(pattern, one.pattern, kind[of]))
  return narrow?.every(isCovered) ?? false
}
