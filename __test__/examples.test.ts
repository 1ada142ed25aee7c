/** The examples run, and do what they say. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { folder } from './helpers'

/** Starts the example with this database; the address is what it prints. */
async function start(t: ExecutionContext, file: string): Promise<{ address: string; child: ChildProcess }> {
  const child = spawn(process.execPath, ['--import=tsx', join('examples', 'fastify.ts'), file, '0'], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
  return { address: line.toString().trim(), child }
}

const post = (address: string, body: object) =>
  fetch(`${address}/notes`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })

test('the Fastify example keeps notes, across a restart', async (t) => {
  const file = join(folder(t), 'notes.db')
  const first = await start(t, file)
  const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => post(first.address, { text: `note ${i}` })))
  t.true(answers.every(({ status }) => status === 201))
  const notes = (await Promise.all(answers.map((answer) => answer.json()))) as { id: number; text: string }[]
  t.deepEqual(notes.map(({ text }) => text), Array.from({ length: 30 }, (_, i) => `note ${i}`))
  t.is(new Set(notes.map(({ id }) => id)).size, 30)
  t.is((await post(first.address, { texts: 1 })).status, 400)
  const missing = await fetch(`${first.address}/notes/31`)
  t.is(missing.status, 404)
  t.deepEqual(await missing.json(), { error: 'no such note' })
  first.child.kill('SIGTERM')
  t.deepEqual(await once(first.child, 'exit'), [0, null], 'it ends by itself when it is told to')

  const second = await start(t, file)
  t.deepEqual(await (await fetch(`${second.address}/notes/${notes[7]?.id}`)).json(), notes[7])
})
