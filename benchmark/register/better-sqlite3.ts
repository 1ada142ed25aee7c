/**
 * What one would write today: the same web framework, with better-sqlite3 called in the handler. It does the same work
 * for a registration (validation, key check and use count, unique key, name and addresses, a durable commit) and leaves
 * out the rest (no log of changes, no netmaps). Each registration is a commit of its own, as synchronous calls allow.
 */
import { fork } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type * as Fastify from 'fastify'
import { subject } from '../subject.js'
import { load } from './load.js'

interface Statement {
  run: (...values: unknown[]) => { changes: number }
  get: (...values: unknown[]) => unknown
}
interface Connection {
  pragma: (text: string) => unknown
  exec: (sql: string) => void
  prepare: (sql: string) => Statement
  transaction: <A extends unknown[]>(f: (...args: A) => void) => { immediate: (...args: A) => void }
}

const folder = process.env['BENCHMARK_SERVER_FOLDER']

if (folder === undefined) {
  subject(async (effort) => {
    const server = fork(fileURLToPath(import.meta.url), { execArgv: ['--import=tsx'], env: { ...process.env, BENCHMARK_SERVER_FOLDER: effort.folder } })
    const [{ url, preauthKey }] = (await once(server, 'message')) as [{ url: string; preauthKey: string }]
    const stop = async (): Promise<void> => {
      server.kill()
      await once(server, 'exit')
    }
    return load(effort, { url, preauthKey, stop })
  })
} else {
  await serve(folder)
}

async function serve(path: string): Promise<void> {
  // The framework that Ghostwire uses.
  const { fastify } = createRequire(fileURLToPath(new URL('../../ghostwire/package.json', import.meta.url)))('fastify') as typeof Fastify
  const Sqlite = createRequire(import.meta.url)('better-sqlite3') as new (path: string) => Connection
  const db = new Sqlite(join(path, 'rival.db'))
  db.pragma('journal_mode = WAL')
  db.pragma('synchronous = FULL')
  db.exec(`
    CREATE TABLE keys (id TEXT PRIMARY KEY, hash BLOB NOT NULL, uses INTEGER NOT NULL, max_uses INTEGER NOT NULL);
    CREATE TABLE peers (id TEXT PRIMARY KEY, hostname TEXT NOT NULL UNIQUE, wireguard_key TEXT NOT NULL UNIQUE,
      ipv4 TEXT NOT NULL UNIQUE, ipv6 TEXT NOT NULL UNIQUE, os TEXT, version TEXT, token_hash BLOB NOT NULL, created INTEGER NOT NULL);
  `)
  const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest()
  const secret = randomBytes(32).toString('hex')
  db.prepare('INSERT INTO keys VALUES (?, ?, 0, 1000000)').run('first', sha256(secret))
  const findKey = db.prepare('SELECT hash FROM keys WHERE id = ?')
  const useKey = db.prepare('UPDATE keys SET uses = uses + 1 WHERE id = ? AND uses < max_uses')
  const insert = db.prepare('INSERT INTO peers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)')
  const register = db.transaction((key: string, ...values: unknown[]) => {
    if (useKey.run(key).changes !== 1) throw new Error('the key is used up')
    insert.run(...values)
  })

  const app = fastify()
  let next = 0
  const text = { type: 'string', maxLength: 100 }
  const schema = {
    body: {
      type: 'object',
      required: ['preauthKey', 'hostname', 'wireguardKey'],
      additionalProperties: false,
      properties: { preauthKey: text, hostname: { ...text, pattern: '^[a-z0-9-]{1,63}$' }, wireguardKey: { ...text, pattern: '^[A-Za-z0-9+/]{43}=$' }, os: text, version: text },
    },
  }
  app.post('/v1/peers/register', { schema }, (request, reply) => {
    const body = request.body as Record<string, string>
    const [id = '', given = ''] = body['preauthKey']?.split('.') ?? []
    const key = findKey.get(id) as { hash: Buffer } | undefined
    if (key === undefined || !key.hash.equals(sha256(given))) return reply.code(401).send({ error: 'unknown key' })
    const n = ++next
    const ipv4 = `100.${64 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`
    const ipv6 = `fd7a:115c:a1e0::${n.toString(16)}`
    const peer = { id: randomBytes(10).toString('hex'), hostname: body['hostname'], wireguardKey: body['wireguardKey'], addresses: [ipv4, ipv6] }
    const token = randomBytes(32).toString('hex')
    register.immediate(id, peer.id, peer.hostname, peer.wireguardKey, ipv4, ipv6, body['os'], body['version'], sha256(token), Date.now())
    return reply.code(201).send({ peer, token })
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  process.send?.({ url, preauthKey: `first.${secret}` })
}
