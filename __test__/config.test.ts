/** Options: units, limits, and misspellings that are named. */
import test from 'ava'
import { Database, type DatabaseOptions } from 'zqlite'
import { rejects } from './helpers'

test('durations and sizes as numbers and texts', async (t) => {
  const db = await Database.open(':memory:', {
    cacheSize: '16MB',
    pool: { minConnections: 1, maxConnections: 5, connectionTimeout: '250ms', idleTimeout: '10m', maxLifetime: '1h', healthCheckInterval: 60_000, queueLimit: 10 },
    transactions: { total: '2s', idle: 100 },
  })
  t.deepEqual(await db.get('SELECT 1 AS one'), { one: 1 })
  await db.close()
})

const wrong: [DatabaseOptions, RegExp][] = [
  [{ cachSize: 5 } as never, /unknown option cachSize; did you mean cacheSize\?/],
  [{ pool: { maxConnection: 5 } as never }, /pool\.maxConnection; did you mean pool\.maxConnections\?/],
  [{ transactions: { ide: 5 } as never }, /did you mean transactions\.idle\?/],
  [{ pool: { maxConnections: 4 } }, /pool\.maxConnections must be a whole number from 5 to 200, not 4/],
  [{ pool: { maxConnections: 201 } }, /not 201/],
  [{ pool: { minConnections: 50, maxConnections: 20 } }, /minConnections \(50\) is above/],
  [{ pool: { connectionTimeout: '30 parsecs' } }, /pool\.connectionTimeout must be milliseconds or a text such as '30s', not "30 parsecs"/],
  [{ pool: { connectionTimeout: -1 } }, /not -1/],
  [{ cacheSize: 'much' }, /cacheSize must be bytes/],
  [{ cacheSize: Number.NaN }, /not NaN/],
  [{ readonly: 'yes' as never }, /readonly must be true or false, not "yes"/],
]

for (const [options, message] of wrong) {
  test(`refused: ${JSON.stringify(options)}`, async (t) => {
    t.regex((await rejects(t, 'ERR_TYPE', Database.open(':memory:', options))).message, message)
  })
}
