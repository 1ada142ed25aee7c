/** Several processes that share a file, because all of them say so. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Database } from 'zqlite'
import { folder, fresh, rejects } from './helpers'

/** Opens the file and does what it is asked, one line of JavaScript after the other. */
const program = `
const { Database } = require('zqlite')
process.once('message', async ({ path, options }) => {
  const answer = (promise) => promise.then((value) => process.send({ value }), ({ code, message }) => process.send({ code, message }))
  let db
  await answer(Database.open(path, options).then((opened) => { db = opened }))
  process.on('message', ({ run }) => answer(new Function('db', 'return (async () => { ' + run + ' })()')(db)))
})
`

interface Answer {
  value?: unknown
  code?: string
  message?: string
}

class Other {
  readonly #child: ChildProcess

  constructor(t: ExecutionContext) {
    this.#child = spawn(process.execPath, ['-e', program], { cwd: __dirname, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    t.teardown(() => this.#child.kill('SIGKILL'))
  }

  async ask(message: object): Promise<Answer> {
    const answer = once(this.#child, 'message') as Promise<[Answer]>
    this.#child.send(message)
    return (await answer)[0]
  }

  run(run: string): Promise<Answer> {
    return this.ask({ run })
  }
}

test('processes that share a file see each other, write in turn, and lose nothing', async (t) => {
  const db = await fresh(t, { shared: true })
  await db.execute('CREATE TABLE t (who TEXT, n INTEGER, UNIQUE (who, n))')
  const other = new Other(t)
  t.deepEqual(await other.ask({ path: db.path, options: { shared: true } }), {})
  const theirs = other.run("await Promise.all(Array.from({ length: 200 }, async (_, n) => { await db.execute('INSERT INTO t VALUES (?, ?)', ['other', n]) }))")
  for (let n = 0; n < 200; n++) await db.execute('INSERT INTO t VALUES (?, ?)', ['this', n])
  t.deepEqual(await theirs, {})
  t.deepEqual(await db.query('SELECT who, count(*) AS n FROM t GROUP BY who ORDER BY who'), [{ who: 'other', n: 200 }, { who: 'this', n: 200 }])
  await db.execute("INSERT INTO t VALUES ('seen', 1)")
  t.deepEqual(await other.run("return await db.get(\"SELECT n FROM t WHERE who = 'seen'\")"), { value: { n: 1 } })
  t.deepEqual(await other.run("return db.getSync(\"SELECT n FROM t WHERE who = 'seen'\")"), { value: { n: 1 } })
  t.deepEqual(await db.get('PRAGMA integrity_check'), { integrity_check: 'ok' })
})

test('a write waits for another process, no longer than it may', async (t) => {
  const db = await fresh(t, { shared: true })
  await db.execute('CREATE TABLE t (n INTEGER)')
  const other = new Other(t)
  await other.ask({ path: db.path, options: { shared: true } })
  const holding = other.run("await db.transaction(async (tx) => { await tx.execute('INSERT INTO t VALUES (1)'); await new Promise((resolve) => setTimeout(resolve, 700)) })")
  while (true) {
    // Once it has the lock, a write of ours cannot be made.
    const blocked = await db.execute('INSERT INTO t VALUES (2)', [], { timeout: 100 }).then(
      () => false,
      ({ code }: { code: string }) => code === 'ERR_DEADLINE',
    )
    if (blocked) break
  }
  const before = performance.now()
  await rejects(t, 'ERR_DEADLINE', db.execute('INSERT INTO t VALUES (3)', [], { timeout: 100 }))
  t.true(performance.now() - before < 400)
  // Neighbours of a call that cannot wait are not failed with it.
  const [impatient, patient] = await Promise.allSettled([db.execute('INSERT INTO t VALUES (4)', [], { timeout: 50 }), db.execute('INSERT INTO t VALUES (5)')])
  t.is(impatient.status, 'rejected')
  t.is(patient.status, 'fulfilled')
  t.deepEqual(await holding, {})
  t.deepEqual(await db.values('SELECT n FROM t WHERE n IN (1, 3, 4, 5) ORDER BY n'), [[1], [5]])
})

test('a deferred transaction leaves the lock to others until it writes', async (t) => {
  const db = await fresh(t, { shared: true })
  await db.execute('CREATE TABLE t (n INTEGER)')
  const other = new Other(t)
  await other.ask({ path: db.path, options: { shared: true } })
  await db.transaction(
    async (tx) => {
      t.deepEqual(await other.run("return (await db.execute('INSERT INTO t VALUES (1)', [], { timeout: 5000 })).changes"), { value: 1 })
      t.is((await tx.execute('INSERT INTO t VALUES (2)')).changes, 1)
    },
    { mode: 'deferred' },
  )
  await rejects(t, 'ERR_TYPE', db.transaction(async () => {}, { mode: 'eager' as 'deferred' }))
})

test('sharing needs the consent of all', async (t) => {
  const path = join(folder(t), 'test.db')
  const own = await Database.open(path)
  const other = new Other(t)
  const refused = await other.ask({ path, options: { shared: true } })
  t.is(refused.code, 'ERR_LOCKED_BY_PROCESS')
  t.regex(refused.message ?? '', new RegExp(`process ${process.pid}, which does not share it`))
  await own.close()
  const shared = await Database.open(path, { shared: true })
  t.teardown(() => shared.close())
  t.is((await new Other(t).ask({ path, options: {} })).code, 'ERR_LOCKED_BY_PROCESS')
})

test('indexes follow what another process writes: at once in SQL, with the next own write beside it', async (t) => {
  const db = await fresh(t, { shared: true })
  await db.execute('CREATE TABLE routes (id INTEGER PRIMARY KEY, prefix TEXT NOT NULL)')
  const other = new Other(t)
  await other.ask({ path: db.path, options: { shared: true } })
  await db.execute('CREATE INDEX by_prefix ON routes USING cidr(prefix)')
  await db.execute("INSERT INTO routes (prefix) VALUES ('10.0.0.0/8')")
  const matches = "SELECT prefix FROM cidr_matches('by_prefix', '10.1.2.3')"
  t.deepEqual(await other.run(`return await db.values("${matches}")`), { value: [['10.0.0.0/8']] })
  t.deepEqual(await other.run("await db.execute(\"INSERT INTO routes (prefix) VALUES ('10.1.0.0/16')\")"), {})
  t.deepEqual(await db.values(matches), [['10.0.0.0/8'], ['10.1.0.0/16']])
  t.deepEqual(db.allSync(matches), [{ prefix: '10.0.0.0/8' }, { prefix: '10.1.0.0/16' }])
  const index = db.cidr('by_prefix')
  t.is(index.matches('10.1.2.3').length, 1)
  await db.execute("INSERT INTO routes (prefix) VALUES ('10.1.2.0/24')")
  t.deepEqual(index.matches('10.1.2.3').map(({ prefix }) => prefix), ['10.0.0.0/8', '10.1.0.0/16', '10.1.2.0/24'])
  t.deepEqual(await other.run(`return await db.values("${matches}")`), { value: [['10.0.0.0/8'], ['10.1.0.0/16'], ['10.1.2.0/24']] })
})
