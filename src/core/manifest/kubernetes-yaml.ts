import type { DocumentOptions, ParseOptions, ScalarTag, SchemaOptions, Tags } from 'yaml'

/**
 * How manifests are parsed. Kubernetes tools read `0755` as octal, like YAML 1.1; and a number that nobody has changed is
 * written as it came, so that the `defaultMode: 0755` of an untouched volume does not become 755, which is another mode.
 */
export const KUBERNETES_YAML: ParseOptions & DocumentOptions & SchemaOptions = {
  merge: true,
  prettyErrors: true,
  customTags: tags => [octal, ...tags].map(asItCame),
}

const octal: ScalarTag = {
  default: true,
  tag: 'tag:yaml.org,2002:int',
  test: /^[-+]?0[0-7]+$/,
  resolve: text => Number.parseInt(text, 8),
}

type Tag = Tags[number]

function asItCame(tag: Tag): Tag {
  if (typeof tag === 'string' || tag.collection !== undefined || !/:(?:int|float)$/.test(tag.tag)) return tag
  return {
    ...tag,
    // A number that was changed has no source any more.
    stringify: (node, ...context) => node.source ?? tag.stringify?.(node, ...context) ?? String(node.value),
  }
}
