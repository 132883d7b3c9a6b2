import { type CallToolResult, fromJsonSchema, type McpServer } from '@modelcontextprotocol/server'

/** Tools whose answers have every kind of content, and two whose schemas have to arrive as they are written. */
export function addContentTools(server: McpServer): void {
  const answers: [name: string, content: CallToolResult['content']][] = [
    ['test_simple_text', [{ type: 'text', text: 'plain text' }]],
    ['test_image_content', [{ type: 'image', data: PNG, mimeType: 'image/png' }]],
    ['test_audio_content', [{ type: 'audio', data: WAV, mimeType: 'audio/wav' }]],
    ['test_embedded_resource', [embedded('test://embedded-resource', 'text/plain', 'from within a resource')]],
    [
      'test_multiple_content_types',
      [
        { type: 'text', text: 'text, image and resource' },
        { type: 'image', data: PNG, mimeType: 'image/png' },
        embedded('test://mixed-content-resource', 'application/json', '{"answer":42}'),
      ],
    ],
  ]
  for (const [name, content] of answers) {
    server.registerTool(name, { description: `Answers with ${kinds(content)}` }, async () => ({ content }))
  }

  server.registerTool('test_error_handling', { description: 'Fails every time' }, async () => {
    throw new Error('this tool fails on purpose')
  })

  server.registerTool(
    'test_x_mcp_header',
    {
      description: 'Has an argument that clients mirror into a header',
      inputSchema: fromJsonSchema<{ region?: string }>(MIRRORED),
    },
    async ({ region }) => ({ content: [{ type: 'text', text: `in ${region ?? 'no region'}` }] }),
  )

  server.registerTool(
    'json_schema_2020_12_tool',
    { description: 'Has a schema with the newer keywords', inputSchema: fromJsonSchema(SCHEMA_2020_12) },
    async args => ({ content: [{ type: 'text', text: JSON.stringify(args) }] }),
  )
}

/** One red pixel. */
export const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC'

/** A WAV header, and no sound. */
const WAV = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA='

// Not inline: the type of a literal schema knows no keywords of others.
const MIRRORED = {
  type: 'object' as const,
  properties: { region: { type: 'string' as const, 'x-mcp-header': 'Region' } },
}

// Keywords and values are those for which the suite looks.
const SCHEMA_2020_12 = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: {
    address: {
      $anchor: 'addressDef',
      type: 'object',
      properties: { street: { type: 'string' }, city: { type: 'string' } },
    },
  },
  properties: {
    name: { type: 'string' },
    address: { $ref: '#/$defs/address' },
    contactMethod: { type: 'string', enum: ['phone', 'email'] },
    phone: { type: 'string' },
    email: { type: 'string' },
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema.
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
} as const

function embedded(uri: string, mimeType: string, text: string): CallToolResult['content'][number] {
  return { type: 'resource', resource: { uri, mimeType, text } }
}

function kinds(content: CallToolResult['content']): string {
  return content.map(block => block.type).join(', ')
}
