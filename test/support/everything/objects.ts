import {
  acceptedContent,
  type GetPromptResult,
  inputRequired,
  type McpServer,
  type PromptCallback,
  ProtocolError,
  ProtocolErrorCode,
  ResourceTemplate,
} from '@modelcontextprotocol/server'
import * as z from 'zod'
import { PNG } from './content-tools.ts'

/** Resources as text, as bytes and from a template. */
export function addResources(server: McpServer): void {
  const text = { mimeType: 'text/plain', description: 'A text' }
  for (const name of ['static-text', 'watched-resource']) {
    server.registerResource(name, `test://${name}`, text, async uri => ({
      contents: [{ uri: uri.href, mimeType: 'text/plain', text: `this is ${name}` }],
    }))
  }
  const image = { mimeType: 'image/png', description: 'An image' }
  server.registerResource('static-binary', 'test://static-binary', image, async uri => ({
    contents: [{ uri: uri.href, mimeType: 'image/png', blob: PNG }],
  }))
  const template = new ResourceTemplate('test://template/{id}/data', { list: undefined })
  const json = { mimeType: 'application/json', description: 'One of many' }
  server.registerResource('template', template, json, async (uri, { id }) => ({
    contents: [{ uri: uri.href, mimeType: 'application/json', text: JSON.stringify({ id }) }],
  }))
}

/** Prompts with and without arguments, with every kind of content, and one that asks first. */
export function addPrompts(server: McpServer): void {
  server.registerPrompt('test_simple_prompt', { description: 'No arguments' }, async () => says('a prompt'))

  const two = z.object({ arg1: z.string(), arg2: z.string() })
  server.registerPrompt('test_prompt_with_arguments', { description: 'Two', argsSchema: two }, async ({ arg1, arg2 }) =>
    says(`with ${arg1} and ${arg2}`),
  )

  const one = z.object({ resourceUri: z.string() })
  server.registerPrompt(
    'test_prompt_with_embedded_resource',
    { description: 'A resource', argsSchema: one },
    async ({ resourceUri: uri }) => ({
      messages: [
        { role: 'user', content: { type: 'resource', resource: { uri, mimeType: 'text/plain', text: 'embedded' } } },
      ],
    }),
  )

  server.registerPrompt('test_prompt_with_image', { description: 'An image' }, async () => ({
    messages: [{ role: 'user', content: { type: 'image', data: PNG, mimeType: 'image/png' } }],
  }))

  const asking: PromptCallback = context => {
    const wanted = z.object({ context: z.string() })
    const answer = acceptedContent(context.mcpReq.inputResponses, 'user_context', wanted)
    if (answer !== undefined) return says(`about ${answer.context}`)
    const user_context = inputRequired.elicit({ message: 'About what?', requestedSchema: wanted })
    return inputRequired({ inputRequests: { user_context } })
  }
  server.registerPrompt('test_input_required_result_prompt', { description: 'Asks first' }, asking)
}

/** Subscriptions, log levels, completion and tasks, of which there are none: answered, and no more. */
export function addUtilities(server: McpServer): void {
  server.server.setRequestHandler('resources/subscribe', async () => ({}))
  server.server.setRequestHandler('resources/unsubscribe', async () => ({}))
  server.server.setRequestHandler('logging/setLevel', async () => ({}))
  server.server.setRequestHandler('completion/complete', async request => {
    const values = ['paris', 'park', 'party'].filter(value => value.startsWith(request.params.argument.value))
    return { completion: { values, total: values.length, hasMore: false } }
  })
  for (const method of ['tasks/get', 'tasks/update', 'tasks/cancel']) {
    server.server.setRequestHandler(method, { params: z.looseObject({ taskId: z.string() }) }, async () => {
      throw new ProtocolError(ProtocolErrorCode.InvalidParams, 'Task not found')
    })
  }
}

function says(text: string): GetPromptResult {
  return { messages: [{ role: 'user', content: { type: 'text', text } }] }
}
