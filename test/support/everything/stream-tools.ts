import { setTimeout as pause } from 'node:timers/promises'
import type { McpServer, ServerNotifier } from '@modelcontextprotocol/server'

const NOTHING = { content: [{ type: 'text' as const, text: 'done' }] }

/** Tools that say something while they work, leave their stream, or change what others are subscribed to. */
export function addStreamTools(server: McpServer, notify: ServerNotifier): void {
  server.registerTool('test_tool_with_logging', { description: 'Logs three times while it works' }, async context => {
    for (const step of ['begins', 'goes on', 'ends']) {
      await context.mcpReq.notify({ method: 'notifications/message', params: { level: 'info', data: `work ${step}` } })
      await pause(20)
    }
    return NOTHING
  })

  server.registerTool('test_logging_tool', { description: 'Logs for who has asked for it' }, async context => {
    await context.mcpReq.log('info', 'only for requests that name a level')
    return NOTHING
  })

  server.registerTool('test_tool_with_progress', { description: 'Tells how far it is' }, async context => {
    const progressToken = context.mcpReq._meta?.progressToken
    for (const progress of [0, 50, 100]) {
      if (progressToken !== undefined) {
        const params = { progressToken, progress, total: 100 }
        await context.mcpReq.notify({ method: 'notifications/progress', params })
      }
      await pause(20)
    }
    return NOTHING
  })

  server.registerTool(
    'test_reconnection',
    { description: 'Ends its stream early; resume for the answer' },
    async context => {
      context.http?.closeSSE?.()
      await pause(100)
      return NOTHING
    },
  )

  server.registerTool(
    'test_streaming_elicitation',
    { description: 'Never asks outside of its result' },
    async () => NOTHING,
  )

  server.registerTool('test_trigger_tool_change', { description: 'Tells that tools have changed' }, async () => {
    notify.toolsChanged()
    return NOTHING
  })
  server.registerTool('test_trigger_prompt_change', { description: 'Tells that prompts have changed' }, async () => {
    notify.promptsChanged()
    return NOTHING
  })
}
