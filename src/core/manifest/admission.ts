import type { JsonObject, JsonValue } from '../json.ts'
import { err, ok, type Result } from '../result.ts'
import { injectObject } from './inject-object.ts'
import { jsonPatch, type PatchOperation } from './json-patch.ts'
import type { InjectOptions } from './options.ts'
import { isObject, objectAt, own, textAt } from './tree.ts'

/** What became of one review; the label of the metric. */
export type AdmissionResult = 'injected' | 'unchanged' | 'denied'

export interface AdmissionAnswer {
  readonly result: AdmissionResult
  /** `Pod/shop/web`, for the log. */
  readonly object: string
  /** Why it was denied or left as it is; empty when it was injected. */
  readonly reason: string
  readonly review: JsonObject
}

export interface AdmissionOptions {
  readonly inject: InjectOptions
  /** Pods of these namespaces are let through as they are, whatever selectors the cluster has. */
  readonly excludedNamespaces: ReadonlySet<string>
}

/**
 * Answers one `AdmissionReview` of an API server.
 *
 * A pod that asks for the sidecar and cannot have it is denied, with every reason: it must not run without protection.
 * Calling it again with the answer's pod changes nothing, so that `reinvocationPolicy: IfNeeded` is safe.
 *
 * @returns  The answer, or in words why the review is none: there is then no `uid` to answer to (HTTP 400).
 * @source   admission.k8s.io/v1, AdmissionReview.
 */
export function answerReview(review: JsonValue, options: AdmissionOptions): Result<AdmissionAnswer, string> {
  if (!isObject(review)) return err('the body is no AdmissionReview')
  if (textAt(review, 'kind') !== 'AdmissionReview' || textAt(review, 'apiVersion') !== 'admission.k8s.io/v1') {
    return err('only AdmissionReview of admission.k8s.io/v1 is answered')
  }
  const request = objectAt(review, 'request')
  const uid = request && textAt(request, 'uid')
  if (!request || !uid) return err('the review has no request with a uid')
  const answer = decide(request, options)
  return ok({ ...answer, review: reviewOf(uid, answer) })
}

interface Decision {
  readonly result: AdmissionResult
  readonly object: string
  readonly reason: string
  readonly patch?: readonly PatchOperation[]
  readonly warnings?: readonly string[]
}

function decide(request: JsonObject, { inject, excludedNamespaces }: AdmissionOptions): Decision {
  const kind = objectAt(request, 'kind') ?? {}
  const namespace = textAt(request, 'namespace') ?? ''
  const named = `${textAt(kind, 'kind') ?? '(no kind)'}/${namespace}`
  const unchanged = (reason: string): Decision => ({ result: 'unchanged', object: named, reason })
  const isPod =
    textAt(kind, 'kind') === 'Pod' && (textAt(kind, 'group') ?? '') === '' && textAt(kind, 'version') === 'v1'
  // The rules of the webhook's configuration say the same; a wrong rule must not stop a cluster.
  if (!isPod) return unchanged('only pods of v1 are injected')
  if (textAt(request, 'operation') !== 'CREATE') return unchanged('only new pods are injected')
  if (textAt(request, 'subResource')) return unchanged('subresources are not injected')
  if (excludedNamespaces.has(namespace)) return unchanged(`the namespace ${namespace} is excluded`)
  const pod = own(request, 'object')
  if (!isObject(pod) || !objectAt(pod, 'spec')) {
    return { result: 'denied', object: named, reason: 'the review carries no pod' }
  }
  // Inside a review neither of the two is promised.
  const typed: JsonObject = { ...pod, apiVersion: 'v1', kind: 'Pod' }
  const injected = injectObject(typed, { ...inject, already: 'keep', namespace })
  if (!injected.ok) {
    const object = injected.error[0]?.object ?? named
    const reasons = injected.error.map(problem =>
      problem.path === '' ? problem.message : `${problem.path}: ${problem.message}`,
    )
    return { result: 'denied', object, reason: reasons.join('; ') }
  }
  const { object, changes, front } = injected.value
  if (!front) return unchanged(changes[0]?.message ?? 'not selected')
  const warnings = changes
    .filter(change => change.level === 'warning')
    .map(change => `${change.path} ${change.message}`)
  return { result: 'injected', object: front.object, reason: '', patch: jsonPatch(typed, object), warnings }
}

function reviewOf(uid: string, { result, reason, patch, warnings }: Decision): JsonObject {
  const response: JsonObject = { uid, allowed: result !== 'denied' }
  if (result === 'denied') {
    response['status'] = {
      status: 'Failure',
      reason: 'Invalid',
      code: 422,
      message: `mcp-sidecar cannot be injected: ${reason}. Put it right, or opt out with the annotation mcp-sidecar.io/inject: "false".`,
    }
  }
  if (patch) {
    response['patchType'] = 'JSONPatch'
    response['patch'] = Buffer.from(JSON.stringify(patch)).toString('base64')
  }
  // kubectl shows these; the API server cuts longer ones (256 characters) and more than 4 KiB in all.
  if (warnings && warnings.length > 0) response['warnings'] = warnings.slice(0, 12).map(text => text.slice(0, 250))
  return { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', response }
}
