import type { ListedKind } from '../core/mcp/list-filter.ts'
import { visible, visiblePlace } from '../core/policy/decide.ts'
import { visibleTemplate } from '../core/policy/template.ts'
import type { Forwarded } from './call.ts'

/** What a caller's lists show: what it may use, judged by the policy that judged the request for the list. */
export function shownTo(
  call: Pick<Forwarded, 'caller' | 'settings'>,
  ownsTask: (id: string) => boolean,
  learn: (kind: 'tool' | 'prompt' | 'resource', name: string) => void,
): (kind: ListedKind, name: string) => boolean {
  const { policy } = call.settings.value
  const { caller } = call
  return (kind, name) => {
    switch (kind) {
      case 'tool':
      case 'prompt':
      case 'resource':
        learn(kind, name)
        return visible(policy, caller, kind, name)
      case 'place':
        return visiblePlace(policy, caller, name)
      case 'template':
        return visibleTemplate(policy, caller, name)
      case 'task':
        return ownsTask(name)
    }
  }
}
