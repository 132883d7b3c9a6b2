import { randomBytes, randomUUID } from 'node:crypto'
import {
  acceptedContent,
  type CallToolResult,
  CLIENT_CAPABILITIES_META_KEY,
  createRequestStateCodec,
  type InputRequest,
  type InputRequiredResult,
  inputRequired,
  inputResponse,
  type McpServer,
  type ServerContext,
} from '@modelcontextprotocol/server'
import * as z from 'zod'

/** What a tool remembers from one round to the next. The client carries it, signed. */
interface Round {
  readonly tool: string
  readonly round: number
  readonly nonce: string
}

export const stateCodec = createRequestStateCodec<Round>({ key: randomBytes(32) })

/** Tools of the modern era: where something is missing the result says so, and the call comes again with it. */
export function addInputRequiredTools(server: McpServer): void {
  const tool = (
    name: string,
    description: string,
    answer: (context: ServerContext) => Answer | Promise<Answer>,
  ): void => {
    server.registerTool(name, { description }, async context => answer(context))
  }

  tool('test_input_required_result_elicitation', 'Asks for a name', context => {
    const user = acceptedContent(context.mcpReq.inputResponses, 'user_name', NAME)
    return user === undefined ? inputRequired({ inputRequests: { user_name: askName() } }) : text(`hello ${user.name}`)
  })

  tool('test_input_required_result_sampling', 'Asks a model', context => {
    const answer = inputResponse(context.mcpReq.inputResponses, 'capital_question')
    return answer.kind === 'sampling'
      ? text('sampled')
      : inputRequired({ inputRequests: { capital_question: sample() } })
  })

  tool('test_input_required_result_list_roots', 'Asks for roots', context => {
    const answer = inputResponse(context.mcpReq.inputResponses, 'client_roots')
    if (answer.kind !== 'roots') return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } })
    return text(`${answer.roots.map(root => root.uri).join(' ')}`)
  })

  tool('test_input_required_result_multiple_inputs', 'Asks for three things at once', async context => {
    const { inputResponses } = context.mcpReq
    const hasAll =
      acceptedContent(inputResponses, 'user_name', NAME) !== undefined &&
      inputResponse(inputResponses, 'greeting').kind === 'sampling' &&
      inputResponse(inputResponses, 'client_roots').kind === 'roots'
    if (hasAll) return text('all three')
    return inputRequired({
      inputRequests: { user_name: askName(), greeting: sample(), client_roots: inputRequired.listRoots() },
      requestState: await mint('multiple', 1),
    })
  })

  for (const name of ['request_state', 'tampered_state']) {
    tool(`test_input_required_result_${name}`, 'Wants its state back', async context => {
      const isConfirmed = acceptedContent(context.mcpReq.inputResponses, 'confirm') !== undefined
      if (isConfirmed && context.mcpReq.requestState<Round>()?.tool === name) return text('state-ok')
      return inputRequired({ inputRequests: { confirm: confirm() }, requestState: await mint(name, 1) })
    })
  }

  tool('test_input_required_result_multi_round', 'Asks twice', async context => {
    const round = context.mcpReq.requestState<Round>()?.round ?? 0
    if (round === 2) return text('asked twice')
    const inputRequests = { [`step${round + 1}`]: askName() }
    return inputRequired({ inputRequests, requestState: await mint('rounds', round + 1) })
  })

  tool('test_input_required_result_capabilities', 'Asks for no more than the client can', context => {
    if (context.mcpReq.inputResponses !== undefined) return text('got what you could')
    const envelope = context.mcpReq.envelope as Record<string, object | undefined> | undefined
    const can = envelope?.[CLIENT_CAPABILITIES_META_KEY] ?? {}
    const inputRequests: Record<string, InputRequest> = {}
    if ('elicitation' in can) inputRequests['user_name'] = askName()
    if ('sampling' in can) inputRequests['greeting'] = sample()
    if ('roots' in can) inputRequests['client_roots'] = inputRequired.listRoots()
    return Object.keys(inputRequests).length === 0 ? text('you can nothing') : inputRequired({ inputRequests })
  })

  tool('test_missing_capability', 'Needs a client that can sample', context =>
    inputResponse(context.mcpReq.inputResponses, 'answer').kind === 'sampling'
      ? text('sampled')
      : inputRequired({ inputRequests: { answer: sample() } }),
  )
}

type Answer = CallToolResult | InputRequiredResult

const NAME = z.object({ name: z.string() })

function askName(): InputRequest {
  return inputRequired.elicit({ message: 'Your name?', requestedSchema: NAME })
}

function confirm(): InputRequest {
  return inputRequired.elicit({ message: 'Sure?', requestedSchema: z.object({ ok: z.boolean() }) })
}

function sample(): InputRequest {
  const messages = [{ role: 'user' as const, content: { type: 'text' as const, text: 'Which city?' } }]
  return inputRequired.createMessage({ messages, maxTokens: 20 })
}

function mint(tool: string, round: number): Promise<string> {
  return stateCodec.mint({ tool, round, nonce: randomUUID() })
}

function text(said: string): CallToolResult {
  return { content: [{ type: 'text', text: said }] }
}
