/** Threads and processes that end in the middle of their work: nothing crashes, hangs, or is lost that was acknowledged. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { Database } from 'zqlite'
import { fresh } from './helpers'

const busy = `
  const { parentPort, workerData } = require('node:worker_threads')
  const { Database } = require('zqlite')
  void (async () => {
    const db = await Database.open(workerData.path)
    const forever = async (call) => { for (;;) await call() }
    let last = 0
    forever(async () => {
      await db.execute('INSERT INTO t (thread, n) VALUES (?, ?)', [workerData.thread, ++last])
      parentPort.postMessage(last)
    }).catch(() => {})
    forever(async () => { for await (const row of db.stream('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500000) SELECT i FROM n')) if (row.i > 40000) break }).catch(() => {})
    forever(() => db.transaction(async (tx) => { await tx.execute('INSERT INTO noise VALUES (1)'); throw new Error('undone') }).catch(() => {})).catch(() => {})
    forever(() => db.query('SELECT count(*) FROM t', [], { signal: AbortSignal.timeout(5) }).catch(() => {})).catch(() => {})
    for (let i = 0; i < 200; i++) { db.getSync('SELECT 1'); await null }
  })()
`

test('threads that are ended in the middle of their work lose nothing that was acknowledged', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (thread INTEGER, n INTEGER)')
  await db.execute('CREATE TABLE noise (a)')
  for (let thread = 0; thread < 20; thread++) {
    const worker = new Worker(busy, { eval: true, workerData: { path: db.path, thread } })
    let acknowledged = 0
    worker.on('message', (n: number) => (acknowledged = n))
    await once(worker, 'online')
    await sleep(50 + 10 * thread)
    await worker.terminate()
    const { n } = (await db.get<{ n: number | null }>('SELECT max(n) AS n FROM t WHERE thread = ?', [thread]))!
    t.true((n ?? 0) >= acknowledged, `thread ${thread} was told of ${acknowledged}, ${n} are there`)
  }
  // The writer is free again, and no transaction was left open.
  t.deepEqual(await db.get('SELECT count(*) AS n FROM noise'), { n: 0 })
  await db.execute("INSERT INTO noise VALUES ('free')")
  t.deepEqual(await db.get('PRAGMA integrity_check'), { integrity_check: 'ok' })
})

for (const how of ['process.exit(0)', "process.kill(process.pid, 'SIGKILL')"]) {
  test(`a process that ends by ${how} with work in flight leaves what it acknowledged`, async (t) => {
    const db = await fresh(t)
    await db.execute('CREATE TABLE t (n INTEGER)')
    const { path } = db
    await db.close()
    const script = `
      const { Database } = require('zqlite')
      void (async () => {
        const db = await Database.open(${JSON.stringify(path)})
        for await (const row of db.stream('SELECT 1')) break
        let n = 0
        setTimeout(() => { ${how} }, 300)
        await Promise.all(Array.from({ length: 16 }, async () => {
          for (;;) {
            const mine = ++n
            await db.execute('INSERT INTO t VALUES (?)', [mine])
            require('node:fs').writeSync(1, mine + '\\n')
          }
        }))
      })()
    `
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
    const acknowledged = new Set<number>()
    createInterface({ input: child.stdout }).on('line', (line) => acknowledged.add(Number(line)))
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
    t.true(code === 0 || signal === 'SIGKILL', `${code} ${signal}`)
    t.true(acknowledged.size > 10)
    const again = await Database.open(path)
    t.teardown(() => again.close())
    const there = new Set((await again.values('SELECT n FROM t')).map(([n]) => n as number))
    t.deepEqual([...acknowledged].filter((n) => !there.has(n)), [])
    t.deepEqual(await again.get('PRAGMA integrity_check'), { integrity_check: 'ok' })
  })
}

test('a query without an end goes with the thread that asked for it', async (t) => {
  const db = await fresh(t)
  const endless = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { Database } = require('zqlite')
    void (async () => {
      const db = await Database.open(workerData)
      const call = db.query('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n')
      call.catch(() => {})
      await new Promise((resolve) => setTimeout(resolve, 50))
      parentPort.postMessage('running')
      await call
    })()
  `
  // More of them than there are lanes.
  const workers = Array.from({ length: 4 }, () => new Worker(endless, { eval: true, workerData: db.path }))
  await Promise.all(workers.map((worker) => once(worker, 'message')))
  await Promise.all(workers.map((worker) => worker.terminate()))
  t.deepEqual(await db.get('SELECT 1 AS one', [], { timeout: '20s' }), { one: 1 })
  const late = sleep(20_000).then(() => 'late')
  t.is(await Promise.race([db.close().then(() => 'closed'), late]), 'closed')
})

const everything = `
  const { workerData } = require('node:worker_threads')
  const { Database } = require('zqlite')
  const path = workerData ?? process.argv[1]
  void (async () => {
    const db = await Database.open(path)
    const many = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000) SELECT i, hex(i) FROM n'
    const forever = async (call) => { for (;;) { await call().catch(() => {}); await new Promise((resolve) => setImmediate(resolve)) } }
    let n = 0
    for (let i = 0; i < 4; i++) void forever(async () => { const mine = ++n; await db.execute('INSERT INTO t VALUES (?)', [mine]); if (!workerData) require('node:fs').writeSync(1, mine + '\\n') })
    void forever(async () => { for await (const row of db.stream(many)) if (row.i % 1000 === 0) await null })
    void forever(() => db.query(many, [], { signal: AbortSignal.timeout(20) }))
    void forever(() => db.backup(path + '.copy' + process.pid, { overwrite: true, pagesPerStep: 1 }))
    void forever(() => db.healthCheck())
    void forever(() => db.vacuum())
    void forever(() => db.checkpoint('truncate', { timeout: 50 }))
    void forever(() => db.transaction(async (tx) => { await tx.execute('INSERT INTO t VALUES (-1)'); await new Promise((resolve) => setTimeout(resolve, 3)); throw new Error('undone') }))
    void forever(async () => { db.executeSync('INSERT INTO t VALUES (-2)'); db.allSync('SELECT * FROM t LIMIT 100') })
    await db.stream(many).next()
    setTimeout(() => process.exit(7), 100 + 200 * Math.random())
  })()
`

test('a process that exits in the middle of everything at once neither crashes nor hangs, and leaves what it acknowledged', async (t) => {
  const db = await fresh(t)
  const { path } = db
  await db.execute('CREATE TABLE t (n INTEGER)')
  await db.close()
  let all = 0
  for (let round = 0; round < 5; round++) {
    const child = spawn(process.execPath, ['-e', everything, path], { cwd: __dirname, stdio: ['ignore', 'pipe', 'inherit'], timeout: 20_000, killSignal: 'SIGKILL' })
    const acknowledged: number[] = []
    createInterface({ input: child.stdout }).on('line', (line) => acknowledged.push(Number(line)))
    t.deepEqual(await once(child, 'close'), [7, null])
    all += acknowledged.length
    const again = await Database.open(path)
    const there = new Set((await again.values('SELECT n FROM t')).map(([n]) => n as number))
    t.deepEqual(acknowledged.filter((n) => !there.has(n)), [])
    t.false(there.has(-1))
    t.deepEqual(await again.get('PRAGMA integrity_check'), { integrity_check: 'ok' })
    await again.execute('DELETE FROM t')
    await again.close()
  }
  t.true(all > 0)
})

test('threads that exit or are ended in the middle of everything at once leave the database to the others', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (n INTEGER)')
  for (let round = 0; round < 8; round++) {
    const worker = new Worker(everything, { eval: true, workerData: db.path })
    const ended = once(worker, 'exit')
    if (round % 2 === 0) {
      await once(worker, 'online')
      await sleep(80 + 20 * round)
      await worker.terminate()
    }
    t.not(await Promise.race([ended, sleep(20_000).then(() => 'hangs')]), 'hangs')
    await db.execute('INSERT INTO t VALUES (0)', [], { timeout: '20s' })
  }
  t.deepEqual(await db.get('SELECT count(*) AS n FROM t WHERE n = -1'), { n: 0 })
  t.deepEqual(await db.get('PRAGMA integrity_check'), { integrity_check: 'ok' })
})
