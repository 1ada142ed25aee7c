/**
 * `npx tsx examples/stress_test.mts [--seconds 10] [--callers 64] [--json]`: callers move money between accounts, all at once and in every
 * way that zqlite has, while readers add it up. No sum may ever differ, and every acknowledged transfer must be there after a reopen.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Database, ZqliteError } from 'zqlite'

const ACCOUNTS = 100
const START = 1_000

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '10' }, callers: { type: 'string', default: '64' }, json: { type: 'boolean', default: false } },
})
const [seconds, callers] = [Number(values.seconds), Number(values.callers)]
if (!(seconds > 0) || !Number.isInteger(callers) || callers < 1) throw new Error('--seconds and --callers take numbers above 0')

const folder = mkdtempSync(join(tmpdir(), 'zqlite-stress-'))
const file = join(folder, 'bank.db')
const counts = { transfers: 0, refused: 0, cancelled: 0, sums: 0 }
const times: number[] = []

try {
  const db = await Database.open(file)
  await db.execute('CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0))')
  await db.execute('CREATE TABLE transfer (id INTEGER PRIMARY KEY, source INTEGER NOT NULL, target INTEGER NOT NULL, amount INTEGER NOT NULL)')
  await db.executeBatchTransaction(Array.from({ length: ACCOUNTS }, (_, id) => ({ sql: 'INSERT INTO account VALUES (?, ?)', params: [id, START] })))

  const end = performance.now() + seconds * 1000
  const progress = values.json ? undefined : setInterval(() => process.stderr.write(`\r${counts.transfers} transfers, ${counts.sums} sums `), 500)
  await Promise.all([
    ...Array.from({ length: callers }, (_, i) => transferUntil(db, end, i)),
    ...Array.from({ length: 4 }, () => sumUntil(db, end)),
  ])
  clearInterval(progress)
  await db.close()

  const reopened = await Database.open(file)
  await sum(reopened)
  const kept = await reopened.get('SELECT count(*) AS n FROM transfer')
  await reopened.close()
  if (kept?.['n'] !== counts.transfers) throw new Error(`${counts.transfers} transfers were acknowledged, and ${String(kept?.['n'])} are there`)

  times.sort((a, b) => a - b)
  const result = { seconds, callers, ...counts, perSecond: Math.round(counts.transfers / seconds), p50Ms: quantile(0.5), p99Ms: quantile(0.99) }
  if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`)
  else {
    process.stdout.write(`\n${counts.transfers} transfers (${result.perSecond} a second, p50 ${result.p50Ms} ms, p99 ${result.p99Ms} ms), each on disk and there after a reopen\n`)
    process.stdout.write(`${counts.refused} refused for lack of money, ${counts.cancelled} cancelled; ${counts.sums} sums, all of them right\n`)
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** One caller after the other is a guarded batch, a callback transaction, or a call that may be cancelled half-way. */
async function transferUntil(db: Database, end: number, caller: number): Promise<void> {
  for (let i = caller; performance.now() < end; i++) {
    const [source, target] = [Math.floor(Math.random() * ACCOUNTS), Math.floor(Math.random() * ACCOUNTS)]
    const amount = 1 + Math.floor(Math.random() * START)
    const steps = [
      { sql: 'UPDATE account SET balance = balance - ? WHERE id = ? AND balance >= ?', params: [amount, source, amount], expect: { changes: 1 } },
      { sql: 'UPDATE account SET balance = balance + ? WHERE id = ?', params: [amount, target] },
      { sql: 'INSERT INTO transfer (source, target, amount) VALUES (?, ?, ?)', params: [source, target, amount] },
    ]
    const started = performance.now()
    try {
      if (i % 16 === 0) {
        await db.transaction(async (tx) => {
          for (const { sql, params, expect } of steps) {
            const { changes } = await tx.execute(sql, params)
            if (expect !== undefined && changes !== expect.changes) throw new ZqliteError('ERR_EXPECTATION_FAILED', 'too little money')
          }
        })
      } else await db.executeBatchTransaction(steps, i % 16 === 1 ? { signal: AbortSignal.timeout(1 + Math.floor(Math.random() * 5)) } : {})
      counts.transfers++
      times.push(performance.now() - started)
    } catch (error) {
      const code = error instanceof ZqliteError ? error.code : ''
      if (code === 'ERR_EXPECTATION_FAILED' || code === 'ERR_CONSTRAINT') counts.refused++
      else if (code === 'ERR_CANCELLED') counts.cancelled++
      else throw error
    }
  }
}

async function sumUntil(db: Database, end: number): Promise<void> {
  while (performance.now() < end) {
    await sum(db)
    counts.sums++
    await sleep(1)
  }
}

async function sum(db: Database): Promise<void> {
  const row = await db.get('SELECT sum(balance) AS total, min(balance) AS least FROM account')
  if (row?.['total'] !== ACCOUNTS * START || Number(row['least']) < 0) throw new Error(`the accounts hold ${String(row?.['total'])}, the least ${String(row?.['least'])}`)
}

function quantile(q: number): number {
  return Math.round((times[Math.floor((times.length - 1) * q)] ?? 0) * 100) / 100
}
