/** The examples run, and do what they say. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
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

/** Runs an example to its end; it checks what it does by itself and fails otherwise. */
function run(...args: string[]): Record<string, number> {
  return JSON.parse(execFileSync(process.execPath, ['--expose-gc', '--import=tsx', ...args, '--json'], { encoding: 'utf8' })) as Record<string, number>
}

test('the stress test moves money and loses none', (t) => {
  t.timeout(180_000)
  const result = run('examples/stress_test.mts', '--seconds', '2', '--callers', '32')
  t.true((result['transfers'] ?? 0) > 0 && (result['sums'] ?? 0) > 0 && (result['refused'] ?? 0) > 0, JSON.stringify(result))
})

test('the memory profile shows every stage, and that the same work does not take more and more', (t) => {
  t.timeout(180_000)
  const result = run('examples/memory_profile.mts', '--scale', '0.02') as unknown as { stages: { stage: string; rss: number }[] }
  t.deepEqual(result.stages.slice(0, 5).map(({ stage }) => stage), ['at the start', 'a database is open', '2000 rows written', '2000 prefixes', '200 peers under 500 rules'])
  t.true(result.stages.every(({ rss }) => rss > 0))
})

test('the demo goes through all of its steps', (t) => {
  t.timeout(180_000)
  const output = execFileSync(process.execPath, ['--import=tsx', join('ghostwire', 'examples', 'demo.ts')], { encoding: 'utf8' })
  t.regex(output, /registering 1,000 peers.*loading the policy.*full map with \d+ peers.*is now db-primary.*db-primary is gone.*stopping/s)
})
