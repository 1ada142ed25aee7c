/** `workers`: threads start, work on one database in every way, and are terminated with all of it in flight. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { Database } from 'zqlite'
import { Random } from './random.js'
import type { Report } from './report.js'

/** Longer than any call of the store takes; a call that is still there has no end. */
const PATIENCE = 30_000

const work = `
  const { parentPort, workerData } = require('node:worker_threads')
  const { Database } = require('zqlite')
  void (async () => {
    const db = await Database.open(workerData.path)
    const forever = async (call) => { for (;;) await call() }
    let n = 0
    forever(async () => {
      const mine = ++n
      await db.execute('INSERT INTO t VALUES (?, ?)', [workerData.thread, mine])
      parentPort.postMessage(mine)
    }).catch(() => {})
    forever(() => db.transaction(async (tx) => { await tx.execute('INSERT INTO noise VALUES (1)'); throw new Error('undone') }).catch(() => {})).catch(() => {})
    forever(async () => { for await (const row of db.stream('SELECT * FROM t')) if (row.n > 100) break }).catch(() => {})
    // Without an end, a deadline or a signal: these must go with their thread.
    db.query('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n').catch(() => {})
    if (workerData.endless) for await (const row of db.stream('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n')) await null
  })()
`

/** Rejects when something takes too long. */
async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  const timer = new AbortController()
  const late = sleep(PATIENCE, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`${what} takes longer than ${PATIENCE} ms`)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    timer.abort()
    late.catch(() => {})
  }
}

export async function workers(rounds: number, seed: number, report: Report): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'torture-'))
  const path = join(folder, 'test.db')
  const random = new Random(seed)
  const db = await Database.open(path)
  await db.execute('CREATE TABLE t (thread INTEGER, n INTEGER)')
  await db.execute('CREATE TABLE noise (a)')
  for (let thread = 0; thread < rounds && !report.over; thread++) {
    const failure = await one(db, path, thread, random).then(
      () => undefined,
      (error: unknown) => error,
    )
    report.round(`workers --seed ${seed} --rounds ${thread + 1}`, failure)
  }
  const closing = await within('closing', db.close()).then(
    () => undefined,
    (error: unknown) => error,
  )
  report.round(`workers --seed ${seed} --rounds ${rounds}`, closing)
  rmSync(folder, { recursive: true, force: true })
}

async function one(db: Database, path: string, thread: number, random: Random): Promise<void> {
  const worker = new Worker(work, { eval: true, workerData: { path, thread, endless: random.below(2) === 0 } })
  let acknowledged = 0
  worker.on('message', (n: number) => (acknowledged = Math.max(acknowledged, n)))
  await within('starting a thread', once(worker, 'online'))
  await sleep(random.below(80))
  await within('ending a thread', worker.terminate())
  // All lanes are free again.
  const there = within('a read', db.get<{ n: number }>('SELECT coalesce(max(n), 0) AS n FROM t WHERE thread = ?', [thread]))
  const { n } = (await there)!
  assert(n >= acknowledged, `thread ${thread} was told of ${acknowledged} writes, ${n} are there`)
  assert.deepEqual(await within('a read', db.get('SELECT count(*) AS n FROM noise')), { n: 0 })
  await within('a write', db.execute('DELETE FROM t WHERE thread < ?', [thread]))
}
