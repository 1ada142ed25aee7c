// What a user would write first, in every form in which it can be written.

const body = `
  const db = await Database.open('first.db')
  await db.execute('CREATE TABLE IF NOT EXISTS t (a INTEGER)')
  await db.execute('INSERT INTO t VALUES (?)', [7])
  const rows = await db.query('SELECT max(a) AS a FROM t')
  const table = new CidrTable()
  table.insert('10.0.0.0/8', 1)
  console.log(JSON.stringify([rows, table.lookup('10.1.2.3'), await db.query('SELECT wrong').catch((error: unknown) => error instanceof ZqliteError && error.code)]))
  await db.close()`

const plain = body.replace('(error: unknown)', '(error)')

/** What each of them prints. */
export const PRINTED = '[[{"a":7}],{"prefix":"10.0.0.0/8","value":1},"ERR_SQL"]'

/** JavaScript, run as it is. */
export const JAVASCRIPT = {
  'first.mjs': `import { CidrTable, Database, ZqliteError } from 'zqlite'\n${plain}\n`,
  'first.cjs': `const { CidrTable, Database, ZqliteError } = require('zqlite')\nvoid (async () => {${plain}\n})()\n`,
}

/** TypeScript with the settings under which it must compile; `run` is what the compiler makes, where that can be run. */
export const TYPESCRIPT = [
  { name: 'node16, ES module', source: 'module.mts', text: typed(`import { CidrTable, Database, ZqliteError } from 'zqlite'`), options: { module: 'node16', moduleResolution: 'node16' }, run: 'module.mjs' },
  { name: 'node16, CommonJS', source: 'common.cts', text: typed(`import { CidrTable, Database, ZqliteError } from 'zqlite'`), options: { module: 'node16', moduleResolution: 'node16' }, run: 'common.cjs' },
  { name: 'bundler', source: 'bundled.ts', text: typed(`import { CidrTable, Database, ZqliteError } from 'zqlite'`), options: { module: 'esnext', moduleResolution: 'bundler' }, run: 'bundled.js' },
]

function typed(first) {
  return `${first}\nimport type { DatabaseOptions } from 'zqlite'\n
export const options: DatabaseOptions = { cacheSize: '16MB' }
// @ts-expect-error the types are there, and are no 'any'
export const wrong: DatabaseOptions = { cacheSize: true }
async function main(): Promise<void> {${body}
}
void main()\n`
}

/** Joins the mesh: registers with the key that \`serve\` printed, then follows the network until its own record is there. */
export const JOIN = `
import { once } from 'node:events'
import { SyncClient } from 'ghostwire/client'

const [api, preauthKey] = process.argv.slice(2)
async function call(path, token, body) {
  const answer = await fetch(api + path, { method: 'POST', headers: { 'content-type': 'application/json', ...(token && { authorization: 'Bearer ' + token }) }, body: JSON.stringify(body ?? {}) })
  if (!answer.ok) throw new Error(path + ': ' + answer.status + ' ' + (await answer.text()))
  return answer.json()
}
const wireguardKey = Buffer.alloc(32, 7).toString('base64')
const { peer, token } = await call('/v1/peers/register', undefined, { preauthKey, hostname: 'first', wireguardKey })
const client = new SyncClient({ credentials: () => call('/v1/peers/self/connection-token', token) })
client.start()
await once(client, 'connected')
console.log(JSON.stringify({ registered: peer.name, told: client.self.name }))
await client.close()
`
