import https from 'node:https'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { startGatewayLoad } from '../support/gateway-load.ts'
import { send, toolCall } from '../support/request.ts'
import { startAnsweringServer } from '../support/rotation.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

let memoryShare = 0.5
let running: RunningSidecar
let upstream: Awaited<ReturnType<typeof startAnsweringServer>>
const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })

beforeAll(async () => {
  upstream = await startAnsweringServer()
  running = await startTestSidecar(upstream.url, () => {}, { overload: { memoryShare: () => memoryShare } })
})
afterAll(async () => {
  agent.destroy()
  await running.stop()
  await upstream.stop()
})

const call = (options: Parameters<typeof send>[1] = {}) =>
  send(running, { body: toolCall('search_docs'), agent, ...options })
const said = (level: string) => eventually(() => running.log.some(line => line.includes(`load is ${level}`)))

test('when memory runs out, newcomers go first, then a share of the calls, and probes never', async () => {
  expect((await call()).status).toBe(200)

  memoryShare = 0.9
  await said('busy')
  await expect(send(running, { body: toolCall('search_docs') })).rejects.toThrow()
  await eventually(() => running.lines.some(line => line['decision']?.reason === 'OVERLOADED'))
  const stream = await call({ method: 'GET', body: '', headers: { Accept: 'text/event-stream' } })
  expect([stream.status, stream.json.error.data.reason]).toEqual([503, 'sidecar_overloaded'])
  expect((await call()).status).toBe(200)

  memoryShare = 0.97
  await said('full')
  const shed = await eventually(async () => {
    const answer = await call()
    return answer.status === 503 ? answer : undefined
  })
  expect(shed.json.error).toMatchObject({ code: 503, data: { reason: 'sidecar_overloaded', retryAfterMs: 1000 } })
  expect(shed.headers['retry-after']).toBe('1')
  await eventually(async () => (await call()).status === 200)
  expect((await fetch(`${running.admin}/livez`)).status).toBe(200)

  memoryShare = 0.5
  await said('normal')
  expect((await send(running, { body: toolCall('search_docs') })).status).toBe(200)
})

test('gateways that are turned away were sent nothing, come again, and stand in the log', async () => {
  let share = 0.9
  const busy = await startTestSidecar(upstream.url, () => {}, { overload: { memoryShare: () => share } })
  await eventually(() => busy.log.some(line => line.includes('load is busy')))
  const { cert, key } = busy.pki.gateway.tls
  const gateways = { port: busy.port, credential: { cert, key, ca: busy.pki.ca.cert }, connections: 2, pauseMs: 5 }

  const impatient = startGatewayLoad(gateways)
  await eventually(() => impatient.failures.length >= 4)
  await impatient.stop()
  for (const failure of impatient.failures) expect(failure).toMatch(/before secure TLS|ECONNRESET/)

  const patient = startGatewayLoad({ ...gateways, retriesTurnedAway: true })
  await eventually(() => patient.counts.turnedAway >= 4)
  share = 0.5
  await eventually(() => patient.counts.answered >= 4)
  await patient.stop()
  await busy.stop()
  expect(patient.failures).toEqual([])
  const logged = busy.lines.filter(line => line['decision']?.reason === 'OVERLOADED')
  const turnedAway = logged.reduce((sum, line) => sum + Number(line['count'] ?? 1), 0)
  expect(turnedAway).toBe(patient.counts.turnedAway + impatient.failures.length)
})
