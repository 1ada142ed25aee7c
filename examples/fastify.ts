// Notes over HTTP: `npx tsx examples/fastify.ts notes.db 3000`
import Fastify from 'fastify'
import { Database } from 'zqlite'

async function main(file = 'notes.db', port = '3000'): Promise<void> {
  const db = await Database.open(file)
  await db.execute('CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL)')
  const app = Fastify()
  app.addHook('onClose', () => db.close())
  const body = { type: 'object', required: ['text'], properties: { text: { type: 'string' } } }
  // Answered when the note is on disk; notes that come together share one commit.
  app.post<{ Body: { text: string } }>('/notes', { schema: { body } }, async (request, reply) =>
    reply.code(201).send(await db.get('INSERT INTO note (text) VALUES (?) RETURNING id, text', [request.body.text])))
  app.get<{ Params: { id: string } }>('/notes/:id', async (request, reply) =>
    (await db.get('SELECT id, text FROM note WHERE id = ?', [request.params.id])) ?? reply.code(404).send({ error: 'no such note' }))
  process.once('SIGTERM', () => void app.close())
  process.stdout.write(`${await app.listen({ port: Number(port) })}\n`)
}

void main(...process.argv.slice(2))
