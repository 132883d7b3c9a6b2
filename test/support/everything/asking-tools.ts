import type { CallToolResult, ElicitRequestFormParams, McpServer } from '@modelcontextprotocol/server'
import * as z from 'zod'

/**
 * Tools of the legacy era that ask the client in the middle of a call. The SDK asks on the session's own stream, the one
 * of the GET; a question from before it is open reaches nobody.
 */
export function addAskingTools(server: McpServer): void {
  server.registerTool(
    'test_sampling',
    { description: 'Has the client sample a model', inputSchema: z.object({ prompt: z.string() }) },
    async ({ prompt }, context) => {
      const { content } = await context.mcpReq.requestSampling({
        messages: [{ role: 'user', content: { type: 'text', text: prompt } }],
        maxTokens: 100,
      })
      return said('the model', content)
    },
  )

  server.registerTool(
    'test_elicitation',
    { description: 'Asks the user for a name and an address', inputSchema: z.object({ message: z.string() }) },
    async ({ message }, context) =>
      said('the user', await context.mcpReq.elicitInput({ message, requestedSchema: CONTACT })),
  )

  const forms: [name: string, about: string, requestedSchema: ElicitRequestFormParams['requestedSchema']][] = [
    ['test_elicitation_sep1034_defaults', 'Asks with a default for each type', DEFAULTS],
    ['test_elicitation_sep1330_enums', 'Asks with each form of choice', CHOICES],
  ]
  for (const [name, description, requestedSchema] of forms) {
    server.registerTool(name, { description }, async context =>
      said('the user', await context.mcpReq.elicitInput({ message: description, requestedSchema })),
    )
  }
}

const CONTACT: ElicitRequestFormParams['requestedSchema'] = {
  type: 'object',
  properties: { username: { type: 'string' }, email: { type: 'string' } },
  required: ['username', 'email'],
}

const DEFAULTS: ElicitRequestFormParams['requestedSchema'] = {
  type: 'object',
  properties: {
    name: { type: 'string', default: 'John Doe' },
    age: { type: 'integer', default: 30 },
    score: { type: 'number', default: 95.5 },
    status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
    verified: { type: 'boolean', default: true },
  },
}

const TITLED = [
  { const: 'value1', title: 'One' },
  { const: 'value2', title: 'Two' },
]

const CHOICES: ElicitRequestFormParams['requestedSchema'] = {
  type: 'object',
  properties: {
    untitledSingle: { type: 'string', enum: ['option1', 'option2'] },
    titledSingle: { type: 'string', oneOf: TITLED },
    legacyEnum: { type: 'string', enum: ['opt1', 'opt2'], enumNames: ['One', 'Two'] },
    untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2'] } },
    titledMulti: { type: 'array', items: { anyOf: TITLED } },
  },
}

function said(who: string, what: unknown): CallToolResult {
  return { content: [{ type: 'text', text: `${who} said: ${JSON.stringify(what)}` }] }
}
