/**
 * `model`: random calls of the public API, writes and every way to read, many at a time, against the database and a plain model in memory, with group
 * commit and without: each call's answer, and what is there afterwards, must be the same. A failure is shrunk.
 */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { Database, ZqliteError } from 'zqlite'
import type { Report } from './report.js'

type Step =
  | { op: 'put' | 'insert' | 'poison'; key: number; value: number }
  | { op: 'add'; key: number; value: number }
  | { op: 'delete' | 'child' | 'orphan'; key: number }

/** Rows whose value is at least so much, asked for in one of the ways in which one can ask. */
interface Read {
  op: 'read'
  by: keyof typeof ways
  least: number
}

type Call = Step | Read | { op: 'batch'; steps: Step[]; expected?: number } | { op: 'transaction'; steps: Step[]; nested: Step[]; ends: 'kept' | 'undone' }

/** Calls that are made at once. */
type Wave = Call[]

const MOST = 100
const SCHEMA = [
  `CREATE TABLE t (key INTEGER PRIMARY KEY, value INTEGER CHECK (value <= ${MOST}))`,
  'CREATE INDEX by_value ON t USING bitmap(value)',
  'CREATE TABLE child (key INTEGER PRIMARY KEY REFERENCES t DEFERRABLE INITIALLY DEFERRED)',
]

function sqlOf(step: Step): { sql: string; params: number[] } {
  switch (step.op) {
    case 'put':
      return { sql: 'INSERT INTO t VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value', params: [step.key, step.value] }
    case 'insert':
      return { sql: 'INSERT INTO t VALUES (?, ?)', params: [step.key, step.value] }
    case 'poison':
      return { sql: 'INSERT OR ROLLBACK INTO t VALUES (?, ?)', params: [step.key, step.value] }
    case 'add':
      return { sql: 'UPDATE t SET value = value + ? WHERE key = ?', params: [step.value, step.key] }
    case 'delete':
      return { sql: 'DELETE FROM t WHERE key = ?', params: [step.key] }
    case 'child':
      return { sql: 'INSERT OR IGNORE INTO child VALUES (?)', params: [step.key] }
    default:
      return { sql: 'DELETE FROM child WHERE key = ?', params: [step.key] }
  }
}

const READ = 'SELECT key, value FROM t WHERE value >= ? ORDER BY key'
type Row = { key: number; value: number }
const flat = (rows: readonly Row[]): number[] => rows.flatMap(({ key, value }) => [key, value])

/** The rows of a read, as numbers in a row: its keys and values in turn. */
const ways = {
  query: async (db: Database, least: number) => flat(await db.query<Row>(READ, [least])),
  values: async (db: Database, least: number) => (await db.values(READ, [least])).flat() as number[],
  columns: async (db: Database, least: number) => {
    // No rows, no columns.
    const { key: keys = [], value: values = [] } = (await db.columns(READ, [least])).columns as { key?: ArrayLike<number>; value?: ArrayLike<number> }
    return Array.from(keys, (key, i) => [key, values[i]!]).flat()
  },
  stream: async (db: Database, least: number) => {
    const rows: Row[] = []
    for await (const row of db.stream<Row>(READ, [least])) rows.push(row)
    return flat(rows)
  },
  prepare: async (db: Database, least: number) => flat(await db.prepare<Row>(READ).query([least])),
  allSync: (db: Database, least: number) => flat(db.allSync<Row>(READ, [least])),
  get: async (db: Database, least: number) => {
    const rows: Row[] = []
    for (let key = -1, row; (row = await db.get<Row>(`SELECT * FROM (${READ}) WHERE key > ? LIMIT 1`, [least, key])) !== undefined; key = row.key) rows.push(row)
    return flat(rows)
  },
  transaction: (db: Database, least: number) => db.transaction(async (tx) => flat(await tx.query<Row>(READ, [least]))),
  // An index of zqlite's own, in SQL and without.
  bitmap: async (db: Database, least: number) => flat(await db.query<Row>("SELECT t.key, t.value FROM bitmap_rows('by_value', ?) b JOIN t ON t.key = b.id ORDER BY t.key", [`value >= ${least}`])),
  bitmapSync: (db: Database, least: number) => flat(Array.from(db.bitmap('by_value').rows(`value >= ${least}`), (key) => db.getSync<Row>('SELECT key, value FROM t WHERE key = ?', [key])!)),
} satisfies Record<string, (db: Database, least: number) => number[] | Promise<number[]>>

/** What a call was answered: rows changed by each statement, the rows of a read, or an error. */
type Outcome = number[] | string

/** What the database should be: obviously right, and slow. */
class Model {
  t = new Map<number, number>()
  child = new Set<number>()

  run(call: Call): Outcome {
    if (call.op === 'read') return [...this.t].filter(([, held]) => held >= call.least).sort((a, b) => a[0] - b[0]).flat()
    if (call.op === 'batch') return this.#whole(() => this.#batch(call.steps, call.expected))
    if (call.op !== 'transaction') return this.#whole(() => [this.#step(call)])
    return this.#whole(() => {
      const changes = call.steps.map((step) => this.#step(step))
      // Nested and undone: it leaves nothing, unless it takes the whole transaction down.
      const nested = this.#whole(() => call.nested.map((step) => this.#step(step)), false, true)
      if (typeof nested === 'string' && call.nested.some(({ op }) => op === 'poison') && this.#poisoned) throw new Error('ERR_TRANSACTION_STATE')
      if (call.ends === 'undone') throw new Error('undone')
      return changes
    })
  }

  #poisoned = false

  #batch(all: Step[], guard: number | undefined): number[] {
    return all.map((one, i) => {
      const changes = this.#step(one)
      if (i === 0 && guard !== undefined && changes !== guard) throw new Error('ERR_EXPECTATION_FAILED')
      return changes
    })
  }

  /** All of it or nothing. */
  #whole(run: () => number[], checked = true, undo = false): Outcome {
    const before = { t: new Map(this.t), child: new Set(this.child) }
    this.#poisoned = false
    let failed: string | undefined
    let changes: number[] = []
    try {
      changes = run()
      if (checked && [...this.child].some((key) => !this.t.has(key))) throw new Error('ERR_CONSTRAINT')
    } catch (error) {
      failed = (error as Error).message
    }
    if (failed !== undefined || undo) Object.assign(this, before)
    return failed ?? changes
  }

  #step(step: Step): number {
    const { key } = step
    const there = this.t.has(key)
    switch (step.op) {
      case 'insert':
      case 'poison':
        if (there || step.value > MOST) {
          this.#poisoned = step.op === 'poison'
          throw new Error('ERR_CONSTRAINT')
        }
        this.t.set(key, step.value)
        return 1
      case 'put':
        if (step.value > MOST) throw new Error('ERR_CONSTRAINT')
        this.t.set(key, step.value)
        return 1
      case 'add':
        if (!there) return 0
        if (this.t.get(key)! + step.value > MOST) throw new Error('ERR_CONSTRAINT')
        this.t.set(key, this.t.get(key)! + step.value)
        return 1
      case 'delete':
        return Number(this.t.delete(key))
      case 'child': {
        const had = this.child.has(key)
        this.child.add(key)
        return Number(!had)
      }
      default:
        return Number(this.child.delete(key))
    }
  }
}

async function make(db: Database, call: Call): Promise<Outcome> {
  try {
    if (call.op === 'read') return await ways[call.by](db, call.least)
    if (call.op === 'batch') {
      const statements = call.steps.map((step, i) => ({ ...sqlOf(step), ...(i === 0 && call.expected !== undefined && { expect: { changes: call.expected } }) }))
      return (await db.executeBatchTransaction(statements)).map(({ changes }) => changes)
    }
    if (call.op !== 'transaction') {
      const { sql, params } = sqlOf(call)
      return [(await db.execute(sql, params)).changes]
    }
    return await db.transaction(async (tx) => {
      const changes: number[] = []
      for (const step of call.steps) changes.push((await tx.execute(sqlOf(step).sql, sqlOf(step).params)).changes)
      const nested = tx.transaction(async (inner) => {
        for (const step of call.nested) await inner.execute(sqlOf(step).sql, sqlOf(step).params)
        throw new Error('undone')
      })
      await nested.catch(() => {})
      // A nested transaction that took the whole down is noticed here.
      await tx.query('SELECT 1')
      if (call.ends === 'undone') throw new Error('undone')
      return changes
    })
  } catch (error) {
    return error instanceof ZqliteError ? error.code : (error as Error).message
  }
}

async function history(waves: readonly Wave[], parallelWrites: boolean): Promise<{ outcomes: Outcome[][]; t: unknown[][]; child: unknown[][] }> {
  // A file, since one in memory has no synchronous calls.
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'torture-'))
  const db = await Database.open(join(folder, 'model.db'), { parallelWrites })
  try {
    for (const sql of SCHEMA) await db.execute(sql)
    const outcomes: Outcome[][] = []
    // Transactions take turns with groups, so among other calls their place is not told beforehand: they are made alone.
    for (const wave of waves) outcomes.push(await Promise.all(wave.map((call) => make(db, call))))
    return { outcomes, t: await db.values('SELECT key, value FROM t ORDER BY key'), child: await db.values('SELECT key FROM child ORDER BY key') }
  } finally {
    await db.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

function expected(waves: readonly Wave[]): Awaited<ReturnType<typeof history>> {
  const plain = new Model()
  const outcomes = waves.map((calls) => calls.map((call) => plain.run(call)))
  const inOrder = (a: readonly number[], b: readonly number[]) => a[0]! - b[0]!
  return { outcomes, t: [...plain.t].sort(inOrder), child: [...plain.child].map((key) => [key]).sort(inOrder) }
}

const key = fc.integer({ min: 0, max: 7 })
const value = fc.integer({ min: 0, max: MOST + 10 })
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ op: fc.constantFrom('put' as const, 'insert' as const, 'poison' as const, 'add' as const), key, value }),
  fc.record({ op: fc.constantFrom('delete' as const, 'child' as const, 'orphan' as const), key }),
)
const steps = fc.array(step, { minLength: 1, maxLength: 4 })
const batch: fc.Arbitrary<Call> = fc.record({ op: fc.constant('batch' as const), steps, expected: fc.integer({ min: 0, max: 1 }) }, { requiredKeys: ['op', 'steps'] })
const transaction: fc.Arbitrary<Call> = fc.record({ op: fc.constant('transaction' as const), steps, nested: fc.array(step, { maxLength: 2 }), ends: fc.constantFrom('kept' as const, 'undone' as const) })
// What a read among writes sees is not told beforehand, so reads are made among themselves.
const read: fc.Arbitrary<Call> = fc.record({ op: fc.constant('read' as const), by: fc.constantFrom(...(Object.keys(ways) as (keyof typeof ways)[])), least: value })
const wave: fc.Arbitrary<Wave> = fc.oneof({ weight: 4, arbitrary: fc.array(fc.oneof({ weight: 3, arbitrary: step }, { weight: 1, arbitrary: batch }), { minLength: 1, maxLength: 12 }) }, { weight: 1, arbitrary: transaction.map((call) => [call]) }, { weight: 2, arbitrary: fc.array(read, { minLength: 1, maxLength: 4 }) })

export async function model(rounds: number, seed: number, report: Report): Promise<void> {
  const property = fc.asyncProperty(fc.array(wave, { minLength: 1, maxLength: 8 }), async (waves) => {
    const should = expected(waves)
    assert.deepEqual(await history(waves, true), should, 'with group commit')
    assert.deepEqual(await history(waves, false), should, 'without group commit')
    report.round('', undefined)
  })
  const { failed, counterexample, errorInstance, counterexamplePath } = await fc.check(property, { numRuns: rounds, seed: seed % 2 ** 31 })
  if (failed) report.round(`model --seed ${seed} --rounds ${rounds}`, new Error(`${String(errorInstance)}\nshrunk to ${JSON.stringify(counterexample)} (path ${counterexamplePath})`))
}
