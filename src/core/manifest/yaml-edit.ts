import {
  type Document,
  isAlias,
  isCollection,
  isMap,
  isScalar,
  isSeq,
  type Node,
  type Pair,
  visit,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml'
import type { JsonObject, JsonValue } from '../json.ts'
import { elementId, isObject, own, sameValue } from './tree.ts'

/**
 * Makes a YAML document mean `to`, changing only the nodes that differ, so that comments, anchors and styles elsewhere
 * stay. A shared node (anchor and aliases) that would change under several owners at once is written out for each.
 *
 * @param from  What the document means now.
 * @returns     Whether aliases had to be written out.
 */
export function editDocument(doc: Document, from: JsonValue, to: JsonValue): { expanded: boolean } {
  if (sameValue(from, to)) return { expanded: false }
  const attempt = doc.clone() as Document
  editInto(attempt, from, to)
  if (means(attempt, to)) {
    doc.contents = attempt.contents as typeof doc.contents
    return { expanded: false }
  }
  writeOutAliases(doc)
  editInto(doc, from, to)
  if (!means(doc, to)) throw new Error('yaml-edit: the edited document does not mean what it should')
  return { expanded: true }
}

function means(doc: Document, to: JsonValue): boolean {
  try {
    return sameValue(doc.toJS() as JsonValue, to)
  } catch {
    // An alias whose anchor went with a node that was replaced.
    return false
  }
}

function editInto(doc: Document, from: JsonValue, to: JsonValue): void {
  const contents = doc.contents as Node | null
  if (!contents || !editNode(doc, contents, from, to)) doc.contents = newNode(doc, to) as typeof doc.contents
}

/** Edits a node in place; false when it has to be replaced by its owner. */
function editNode(doc: Document, node: Node, from: JsonValue, to: JsonValue): boolean {
  if (sameValue(from, to)) return true
  if (isMap(node) && isObject(from) && isObject(to)) return editMap(doc, node, from, to)
  if (isSeq(node) && Array.isArray(from) && Array.isArray(to)) return editSeq(doc, node, from, to)
  if (isScalar(node) && (typeof to !== 'object' || to === null)) {
    node.value = to
    // A changed value has no source text of its own any more.
    delete node.source
    if (typeof to !== 'string') delete node.type
    return true
  }
  return false
}

function editMap(doc: Document, map: YAMLMap, from: JsonObject, to: JsonObject): boolean {
  for (const key of Object.keys(from)) {
    if (Object.hasOwn(to, key)) continue
    if (!pairOf(map, key)) return false
    map.items = map.items.filter(item => item !== pairOf(map, key))
  }
  for (const [key, value] of Object.entries(to)) {
    const before = own(from, key)
    if (Object.hasOwn(from, key) && sameValue(before, value)) continue
    const pair = pairOf(map, key)
    if (!pair) {
      // From a merge key: what is set here wins over what is merged.
      map.items.push(doc.createPair(key, newNode(doc, value)) as Pair)
    } else {
      const child = pair.value as Node | null
      if (!child || !editNode(doc, child, before ?? null, value)) pair.value = newNode(doc, value)
    }
  }
  if (map.items.length > 0 && Object.keys(from).length === 0) map.flow = false
  return true
}

function pairOf(map: YAMLMap, key: string): Pair | undefined {
  return map.items.find(item => (isScalar(item.key) ? String(item.key.value) : item.key) === key)
}

/** Elements that both lists have keep their nodes, in the order of `to`; a list that was reordered is replaced. */
function editSeq(doc: Document, seq: YAMLSeq, from: JsonValue[], to: JsonValue[]): boolean {
  const nodes: unknown[] = []
  let next = 0
  for (const element of to) {
    const index = from.findIndex((candidate, at) => at >= next && isSameElement(candidate, element))
    const node = index < 0 ? undefined : (seq.items[index] as Node)
    if (node === undefined || !editNode(doc, node, from[index] as JsonValue, element)) {
      nodes.push(newNode(doc, element))
    } else {
      nodes.push(node)
    }
    if (index >= 0) next = index + 1
  }
  seq.items = nodes as typeof seq.items
  if (from.length === 0) seq.flow = false
  return true
}

function isSameElement(a: JsonValue, b: JsonValue): boolean {
  const id = elementId(a)
  return id === undefined ? sameValue(a, b) : id === elementId(b)
}

/**
 * A new node whose strings are strings to readers of YAML 1.1 too, which Kubernetes tools are: there `on` is a boolean,
 * `0777` is octal and `12:30` is a number.
 */
function newNode(doc: Document, value: JsonValue): Node {
  const node = doc.createNode(value) as Node
  visit(node, {
    Scalar(_key, scalar) {
      if (typeof scalar.value === 'string' && AMBIGUOUS.test(scalar.value)) scalar.type = 'QUOTE_DOUBLE'
    },
  })
  return node
}

const AMBIGUOUS = /^(?:y|n|yes|no|on|off|[-+.]?[0-9][0-9a-fxo_.:+-]*)$/i

function writeOutAliases(doc: Document): void {
  visit(doc, {
    Alias(_key, alias) {
      const source = alias.resolve(doc)
      if (!source) return undefined
      const copy = source.clone() as Node
      if (!isAlias(copy)) delete (copy as { anchor?: string }).anchor
      return copy
    },
  })
  visit(doc, {
    Node(_key, node) {
      if (!isAlias(node) && (isScalar(node) || isCollection(node))) delete (node as { anchor?: string }).anchor
    },
  })
}
