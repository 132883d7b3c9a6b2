import type { JsonObject } from '../json.ts'
import type { RpcId } from './message.ts'

/**
 * Bytes of a JSON-RPC error response.
 *
 * @param id    Id of the request; left out when it is not known. JSON-RPC 2.0 asks for `null` there, the schemas of MCP
 *              allow a string or an integer or nothing, and MCP clients check against those.
 * @param data  `error.data`; left out when undefined or empty.
 * @source      MCP schemas 2025-11-25 and 2026-07-28, `JSONRPCErrorResponse`.
 */
export function errorBody(
  id: RpcId | undefined,
  error: { readonly code: number; readonly message: string },
  data?: JsonObject,
): Buffer {
  const has = data !== undefined && Object.keys(data).length > 0
  const body = {
    jsonrpc: '2.0',
    ...(id === undefined ? {} : { id }),
    error: { code: error.code, message: error.message, ...(has ? { data } : {}) },
  }
  return Buffer.from(JSON.stringify(body))
}
