import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hasRedis, redisTitle, startRedis, type TestRedis } from '../support/redis.ts'

const CLIENT = join(import.meta.dirname, '../support/quota-client.ts')
let redis: TestRedis

describe.skipIf(!hasRedis)(redisTitle('three processes on one Redis'), () => {
  beforeAll(async () => {
    redis = await startRedis()
  })
  afterAll(() => redis.close())

  test('together they admit one limit, to the unit', async () => {
    const run = promisify(execFile)
    const outputs = await Promise.all([1, 2, 3].map(() => run(process.execPath, [CLIENT, redis.url, '500', '400'])))
    const counts = outputs.map(({ stdout }) => JSON.parse(stdout) as { admitted: number; down: number })
    expect(counts.reduce((sum, { admitted }) => sum + admitted, 0)).toBe(500)
    expect(counts.reduce((sum, { down }) => sum + down, 0)).toBe(0)
  })
})
