/** Tracing channels and the hook for slow calls: what listeners are told, and that nobody pays who has none. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { execFileSync } from 'node:child_process'
import { channel, tracingChannel } from 'node:diagnostics_channel'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { ZqliteError } from 'zqlite'
import { channels, type SlowQuery, type TraceContext, Tracer } from '../dist/lib/tracing.js'
import { fresh } from './helpers'

type Event = [event: string, context: TraceContext]

/** Notes the events of a channel until the test has ended. The tests of this file run one by one: channels are the process's. */
function listen(t: ExecutionContext, name: string): Event[] {
  const events: Event[] = []
  const note = (event: string) => (context: unknown) => void events.push([event, context as TraceContext])
  const listeners = { start: note('start'), end: note('end'), asyncStart: note('asyncStart'), asyncEnd: note('asyncEnd'), error: note('error') }
  const traced = tracingChannel<unknown, TraceContext>(name)
  traced.subscribe(listeners)
  t.teardown(() => traced.unsubscribe(listeners))
  return events
}

for (const name of ['query', 'batch', 'transaction', 'acquire'] as const) {
  test.serial(`zqlite:${name} tells of a call from start to end, with one context`, async (t) => {
    const events = listen(t, `zqlite:${name}`)
    const context: TraceContext = { operation: name, sql: 'SELECT 1', lane: 'reader' }
    const rows = [{ 1: 1 }]
    t.is(await new Tracer().traced(channels[name], context, async () => rows), rows)
    t.deepEqual(events.map(([event]) => event), ['start', 'end', 'asyncStart', 'asyncEnd'])
    t.true(events.every(([, given]) => given === context))
    t.is(context.result, rows)
  })
}

test.serial('a call that fails tells of its error, and fails with it', async (t) => {
  const db = await fresh(t)
  const events = listen(t, 'zqlite:query')
  const error = await t.throwsAsync(db.query('SELECT wrong'), { instanceOf: ZqliteError })
  t.is(error.code, 'ERR_SQL')
  t.deepEqual(events.map(([event]) => event), ['start', 'end', 'error', 'asyncStart', 'asyncEnd'])
  t.true(events.every(([, context]) => context.error === error && context.sql === 'SELECT wrong'))
})

test.serial('every call of a database is told of on its channel, and parameters are not', async (t) => {
  const db = await fresh(t)
  const queries = listen(t, 'zqlite:query')
  const [batches, transactions, acquires] = ['batch', 'transaction', 'acquire'].map((name) => listen(t, `zqlite:${name}`)) as [Event[], Event[], Event[]]
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, secret TEXT)')
  await db.execute('INSERT INTO t VALUES (?, ?)', [1, 'hunter2'])
  await db.get('SELECT id FROM t')
  await db.values('SELECT 1')
  await db.columns('SELECT 2')
  db.getSync('SELECT 3')
  for await (const _ of db.stream('SELECT 4'));
  await db.executeBatchTransaction([{ sql: 'SELECT 5' }, { sql: 'SELECT 6' }])
  await db.transaction(async (tx) => tx.query('SELECT 7'))
  const started = (events: Event[]) => events.filter(([event]) => event === 'start').map(([, { operation, lane }]) => `${operation} ${lane}`)
  t.deepEqual(started(queries), ['execute writer', 'execute writer', 'get reader', 'values reader', 'columns reader', 'getSync sync', 'stream stream', 'query writer'])
  t.deepEqual(started(batches), ['executeBatchTransaction writer'])
  t.is(batches[0]?.[1].statements, 2)
  t.deepEqual(started(transactions), ['transaction writer'])
  t.deepEqual(started(acquires), ['transaction writer'])
  const { result: _, ...told } = queries.find(([, { sql }]) => sql?.startsWith('INSERT'))?.[1] ?? { operation: '' }
  t.false(JSON.stringify(told).includes('hunter2'))
})

test.serial('slow calls of a database are told of', async (t) => {
  const slow: SlowQuery[] = []
  const db = await fresh(t, { slowQuery: { threshold: '20ms', log: (call) => slow.push(call) } })
  await db.query('SELECT 1')
  await db.query('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000000) SELECT count(*) FROM n')
  t.true(slow.length >= 1 && slow.some(({ sql }) => sql?.includes('RECURSIVE')))
  t.true(slow.every(({ duration }) => duration >= 20))
})

test.serial('a logger as pino makes them is told what happens, and never of parameters', async (t) => {
  const lines: [level: string, details: Record<string, unknown>, message: string][] = []
  const level = (name: string) => (details: object, message: string) => void lines.push([name, details as Record<string, unknown>, message])
  const db = await fresh(t, { logger: { debug: level('debug'), info: level('info'), warn: level('warn'), error: level('error') }, slowQuery: { threshold: 0 } })
  await db.migrate([{ version: 1, name: 'first', up: 'CREATE TABLE t (a)' }])
  await db.execute('INSERT INTO t VALUES (?)', ['hunter2'])
  await db.backup(`${db.path}.copy`)
  await db.close()
  const of = (message: string) => lines.filter(([, , told]) => told === message)
  t.is(of('database opened')[0]?.[1]['path'], db.path)
  t.deepEqual(of('migration applied'), [['info', { version: 1, name: 'first' }, 'migration applied']])
  t.is(of('backup made').length, 1)
  t.true(of('slow call').some(([name, { sql }]) => name === 'warn' && sql === 'INSERT INTO t VALUES (?)'))
  t.deepEqual(of('database closed').map(([name]) => name), ['debug'])
  t.false(JSON.stringify(lines).includes('hunter2'))
})

test.serial('a synchronous call has no asynchronous part', (t) => {
  const events = listen(t, 'zqlite:query')
  const tracer = new Tracer()
  t.is(tracer.tracedSync(channels.query, { operation: 'getSync' }, () => 5), 5)
  t.throws(() => tracer.tracedSync(channels.query, { operation: 'getSync' }, () => {
    throw new Error('mine')
  }), { message: 'mine' })
  t.deepEqual(events.map(([event]) => event), ['start', 'end', 'start', 'error', 'end'])
})

test.serial('one who subscribes to a single event, by its full name, is served too', async (t) => {
  const seen: unknown[] = []
  const listener = (context: unknown) => void seen.push(context)
  channel('tracing:zqlite:batch:asyncEnd').subscribe(listener)
  t.teardown(() => channel('tracing:zqlite:batch:asyncEnd').unsubscribe(listener))
  const context: TraceContext = { operation: 'executeBatch', statements: 2 }
  await new Tracer().traced(channels.batch, context, async () => {})
  t.deepEqual(seen, [context])
})

test.serial("a tracer's store is bound while the call runs and where its result is awaited", async (t) => {
  const span = new AsyncLocalStorage<string>()
  const { start } = tracingChannel<string, TraceContext>('zqlite:query')
  start.bindStore(span, (context) => `span of ${(context as TraceContext).operation}`)
  t.teardown(() => start.unbindStore(span))
  const seen = await new Tracer().traced(channels.query, { operation: 'get' }, async () => {
    await sleep(1)
    return span.getStore()
  })
  t.is(seen, 'span of get')
  t.is(span.getStore(), undefined)
})

test.serial('calls in flight at once do not mix', async (t) => {
  const events = listen(t, 'zqlite:query')
  const tracer = new Tracer()
  const answers: (() => void)[] = []
  const calls = ['a', 'b', 'c'].map((operation) =>
    tracer.traced(channels.query, { operation }, () => new Promise<string>((resolve) => answers.push(() => resolve(`of ${operation}`)))),
  )
  for (const call of [2, 0, 1]) {
    answers[call]?.()
    await calls[call]
  }
  const ends = events.filter(([event]) => event === 'asyncEnd').map(([, { operation, result }]) => [operation, result])
  t.deepEqual(ends, [['c', 'of c'], ['a', 'of a'], ['b', 'of b']])
})

test.serial('without listeners the call is made as it is, and nothing is noted', async (t) => {
  const context: TraceContext = { operation: 'query' }
  const answer = Promise.resolve(1)
  t.is(new Tracer().traced(channels.query, context, () => answer), answer)
  t.is(new Tracer().tracedSync(channels.query, context, () => 2), 2)
  t.deepEqual(context, { operation: 'query' })
})

test.serial('without listeners a call costs less than 150 ns more', (t) => {
  // A process of its own: here others have subscribed before, and a profiler or coverage may be at work.
  const script = `
    const { Tracer, channels } = require('./dist/lib/tracing.js')
    const tracer = new Tracer()
    const answer = Promise.resolve(1)
    const sql = 'SELECT 1'
    const call = () => answer
    const measure = (f) => {
      let best = Infinity
      for (let round = 0; round < 20; round++) {
        const started = process.hrtime.bigint()
        for (let i = 0; i < 200_000; i++) f()
        best = Math.min(best, Number(process.hrtime.bigint() - started) / 200_000)
      }
      return best
    }
    const bare = measure(() => call())
    console.log(measure(() => tracer.traced(channels.query, { operation: 'query', sql }, () => call())) - bare)`
  const nanoseconds = Number(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }))
  t.log(`${nanoseconds.toFixed(1)} ns`)
  t.true(nanoseconds < 150, `${nanoseconds} ns`)
})

const withoutTimes = (slow: SlowQuery[]) => slow.map((call) => Object.fromEntries(Object.entries(call).filter(([key]) => key !== 'duration')))

test.serial('slow calls are told of, with their time, and fast ones are not', async (t) => {
  const slow: SlowQuery[] = []
  const log = (call: SlowQuery) => void slow.push(call)
  await new Tracer({ threshold: '1h', log }).traced(channels.query, { operation: 'get', sql: 'fast' }, async () => 1)
  t.deepEqual(slow, [])
  await new Tracer({ threshold: '40ms', log }).traced(channels.query, { operation: 'query', sql: 'slow', lane: 'reader' }, () => sleep(60, ['a row']))
  t.deepEqual(withoutTimes(slow), [{ operation: 'query', sql: 'slow', lane: 'reader' }])
  const duration = slow[0]?.duration ?? Number.NaN
  t.true(duration >= 40 && duration < 5_000, `${duration} ms`)
})

test.serial('slow calls that fail come with their error, and rows are kept out of the log when a tracer listens', async (t) => {
  const slow: SlowQuery[] = []
  const tracer = new Tracer({ threshold: 0, log: (call) => slow.push(call) })
  const error = new Error('mine')
  t.is(await t.throwsAsync(tracer.traced(channels.query, { operation: 'query' }, () => Promise.reject(error))), error)
  t.throws(() => tracer.tracedSync(channels.query, { operation: 'getSync' }, () => {
    throw error
  }))
  listen(t, 'zqlite:query')
  await tracer.traced(channels.query, { operation: 'query' }, async () => ['rows'])
  t.deepEqual(withoutTimes(slow), [{ operation: 'query', error }, { operation: 'getSync', error }, { operation: 'query' }])
})

test.serial('a hook that throws is an uncaught exception, and the call is answered', (t) => {
  const script = `
    const { Tracer, channels } = require('./dist/lib/tracing.js')
    process.on('uncaughtException', (error) => console.log('uncaught', error.message))
    const tracer = new Tracer({ threshold: 0, log: () => { throw new Error('hook') } })
    tracer.traced(channels.query, { operation: 'query' }, async () => 'rows').then((rows) => console.log('answered', rows))`
  const lines = execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }).trim().split('\n')
  t.deepEqual(lines.sort(), ['answered rows', 'uncaught hook'])
})

test.serial('refused: a logger that is none', (t) => {
  t.throws(() => new Tracer(undefined, { info: () => {} } as never), { instanceOf: ZqliteError, message: /logger must have a method debug/ })
})

const wrong: [object, RegExp][] = [
  [{ treshold: 1, log: () => {} }, /unknown option slowQuery\.treshold; did you mean slowQuery\.threshold\?/],
  [{ threshold: 'long', log: () => {} }, /slowQuery\.threshold must be milliseconds/],
  [{ threshold: 5 }, /slowQuery\.log must be a function, not undefined/],
]
for (const [options, message] of wrong) {
  test.serial(`refused: ${message.source}`, (t) => {
    const error = t.throws(() => new Tracer(options as never), { instanceOf: ZqliteError, message })
    t.is(error.code, 'ERR_TYPE')
  })
}
