import type { JsonObject, JsonValue } from '../json.ts'
import type { Recorded, RecordedTool } from './lint.ts'

/**
 * Reads what an upstream was seen to offer: one or several recorded answers to `tools/list` and `prompts/list`, as the
 * whole JSON-RPC answer, its `result`, or the list alone.
 *
 * @returns  Undefined when there is no list in it.
 */
export function readRecorded(value: JsonValue): Recorded | undefined {
  const answers = Array.isArray(value) ? (isListOfAnswers(value) ? value : [{ tools: value }]) : [value]
  let tools: RecordedTool[] | undefined
  let prompts: { name: string }[] | undefined
  for (const answer of answers) {
    const object = asObject(answer)
    const result = asObject(object?.['result']) ?? object
    if (Array.isArray(result?.['tools'])) tools = [...(tools ?? []), ...result['tools'].flatMap(readTool)]
    if (Array.isArray(result?.['prompts'])) prompts = [...(prompts ?? []), ...result['prompts'].flatMap(readTool)]
  }
  if (tools === undefined && prompts === undefined) return undefined
  return { ...(tools === undefined ? {} : { tools }), ...(prompts === undefined ? {} : { prompts }) }
}

function isListOfAnswers(value: readonly JsonValue[]): boolean {
  return value.some(one => {
    const object = asObject(one)
    return object?.['result'] !== undefined || object?.['tools'] !== undefined || object?.['prompts'] !== undefined
  })
}

function readTool(value: JsonValue): RecordedTool[] {
  const tool = asObject(value)
  const name = tool?.['name']
  if (typeof name !== 'string') return []
  const properties = asObject(asObject(tool?.['inputSchema'])?.['properties'])
  return [{ name, ...(properties === undefined ? {} : { inputSchema: { properties } }) }]
}

function asObject(value: JsonValue | undefined): JsonObject | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
}
