import { expect, test } from 'vitest'
import { visibleTemplate } from '../../src/core/policy/template.ts'
import { callerOf, policyOf, rule } from '../support/policy.ts'

const docs = rule({ id: 'docs', resources: ['file:///srv/docs/*'] })
const tree = rule({ id: 'tree', resources: ['file:///srv/docs/**'] })
const users = rule({ id: 'users', when: { roles: ['admin'] }, resources: ['db://users/**'] })
const no = (resources: string[]) => rule({ id: 'no', effect: 'deny', resources })

test.each([
  { template: 'file:///srv/docs/{name}', rules: [docs], want: true },
  { template: 'file:///srv/docs/{name}.md', rules: [docs], want: true },
  { template: 'file:///srv/{folder}/readme', rules: [docs], want: true },
  { template: 'file:///srv/docs/a/{name}', rules: [docs], want: false },
  { template: 'file:///srv/docs/{a}/{b}', rules: [docs], want: false },
  { template: 'file:///srv/docs/{a}/{b}', rules: [tree], want: true },
  { template: 'file:///{+path}', rules: [docs], want: true },
  { template: 'file:///{path}', rules: [docs], want: false },
  { template: 'file:///etc/{name}', rules: [docs], want: false },
  { template: 'FILE:///srv/docs/{name}', rules: [docs], want: true },
  { template: '{+anything}', rules: [docs], want: true },
  { template: 'db://users/{id}', rules: [users], want: false },
  { template: 'file:///srv/docs/{name}', rules: [docs, no(['file:///srv/**'])], want: false },
  { template: 'file:///srv/docs/{name}', rules: [docs, no(['file:///srv/docs/secret'])], want: true },
  { template: 'file:///srv/docs/{+path}', rules: [tree, no(['file:///srv/docs/*'])], want: true },
  { template: 'file:///srv/docs/{name}', rules: [tree, no(['file:///srv/docs/*'])], want: false },
  { template: `file:///srv/docs/{name}${'x'.repeat(2048)}`, rules: [tree], want: false },
])('$template', ({ template, rules, want }) => {
  expect(visibleTemplate(policyOf(rules), callerOf(), template)).toBe(want)
})

test('a policy in shadow hides none, and one that allows by default only what it denies', () => {
  expect(visibleTemplate(policyOf([], { mode: 'shadow' }), callerOf(), 'x://{a}')).toBe(true)
  const open = policyOf([no(['x://**'])], { default: 'allow' })
  expect(visibleTemplate(open, callerOf(), 'x://{a}')).toBe(false)
  expect(visibleTemplate(open, callerOf(), 'y://{a}')).toBe(true)
})
