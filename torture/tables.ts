/**
 * Writes to SQL tables, and what must be found of them: the rows of a client are a function of how many of its writes were
 * made, so whether an acknowledged one is there, and none is half done, is a comparison.
 */
import assert from 'node:assert/strict'
import type { Database, Migration } from 'zqlite'
import { checkIndexes, makeTables, ownIndexes } from './indexes.js'
import { Random } from './random.js'

export const CLIENTS = 8

/** The writes of a client have this many parts, all or none of them. */
const partsOf = (client: number, n: number): number => 1 + new Random(client, n).below(4)
const contentOf = (client: number, n: number, part: number): string => `${client}.${n}.${part}.`.repeat(1 + new Random(client, n, part).below(60))

const INSERT = 'INSERT INTO log VALUES (?, ?, ?, ?)'
const rowOf = (client: number, n: number, part: number) => [client, n, part, contentOf(client, n, part)]

/** A migration a round: the first makes the tables, every later one a table and two indexes more. */
export function migrations(count: number): Migration[] {
  return Array.from({ length: count }, (_, i) => ({
    version: i + 1,
    name: i === 0 ? 'tables' : `more ${i + 1}`,
    up:
      i === 0
        ? `CREATE TABLE log (client INTEGER, n INTEGER, part INTEGER, content TEXT, PRIMARY KEY (client, n, part));
           CREATE TABLE bulk (id INTEGER PRIMARY KEY, content BLOB);
           CREATE TABLE head (client INTEGER PRIMARY KEY, n INTEGER, parts INTEGER);
           CREATE TRIGGER count AFTER INSERT ON log BEGIN
             INSERT INTO head VALUES (new.client, new.n, 1) ON CONFLICT (client) DO UPDATE SET n = excluded.n, parts = parts + 1; END;
           ${makeTables.join(';\n')};`
        : `CREATE TABLE more_${i + 1} (a INTEGER PRIMARY KEY); INSERT INTO more_${i + 1} VALUES (1), (2); CREATE INDEX more_${i + 1}_a ON more_${i + 1} (a);
           CREATE INDEX more_${i + 1}_bits ON more_${i + 1} USING bitmap(a)`,
  }))
}

/** A statement after which an index is there, or is not. */
export interface IndexChange {
  name: string
  there: boolean
  sql: string
}

const byBtree: Record<string, string> = {
  log_by_content: 'CREATE INDEX IF NOT EXISTS log_by_content ON log (content, n)',
  log_by_n: 'CREATE UNIQUE INDEX IF NOT EXISTS log_by_n ON log (n, client, part)',
}

/** Indexes that come and go while rows are written: SQLite's own, and one of each kind of zqlite's, which are there more often. */
export const indexChanges: readonly IndexChange[] = [
  ...Object.entries(byBtree).flatMap(([name, sql]) => [{ name, there: true, sql }, dropping(name)]),
  ...ownIndexes.flatMap(({ name, sql }) => [{ name, there: true, sql }, { name, there: true, sql }, dropping(name)]),
]

function dropping(name: string): IndexChange {
  return { name, there: false, sql: `DROP INDEX IF EXISTS ${name}` }
}

/** Fills the log, so that the checkpoint lane has work. */
export const BULK = 'INSERT OR REPLACE INTO bulk VALUES (?, randomblob(1500000))'

/** Makes a client's `n`th write: a statement, a batch, or a callback transaction with a nested one that is undone. */
export async function write(db: Database, client: number, n: number): Promise<void> {
  const parts = partsOf(client, n)
  if (parts === 1) {
    await db.execute(INSERT, rowOf(client, n, 0))
  } else if (client % 4 === 3) {
    await db.transaction(async (tx) => {
      for (let part = 0; part < parts; part++) await tx.execute(INSERT, rowOf(client, n, part))
      const undone = tx.transaction(async (nested) => {
        await nested.execute('DELETE FROM log WHERE client = ?', [client])
        throw new Error('undone')
      })
      await undone.catch(() => {})
    })
  } else {
    await db.executeBatchTransaction(Array.from({ length: parts }, (_, part) => ({ sql: INSERT, params: rowOf(client, n, part) })))
  }
}

export interface Writes {
  acknowledged: number
  begun: number
}

/** Compares what is there with what must be; returns how many writes of each client there are. */
export async function check(db: Database, writes: readonly Writes[]): Promise<number[]> {
  assert.deepEqual(await db.query('PRAGMA integrity_check'), [{ integrity_check: 'ok' }])
  const made: number[] = []
  for (const [client, { acknowledged, begun }] of writes.entries()) {
    const head = await db.get<{ n: number; parts: number }>('SELECT n, parts FROM head WHERE client = ?', [client])
    const { n, parts } = head ?? { n: 0, parts: 0 }
    assert(n >= acknowledged, `write ${acknowledged} of client ${client} was acknowledged, the last there is ${n}`)
    assert(n <= begun, `write ${n} of client ${client} is there, but only ${begun} were begun`)
    const rows = await db.values('SELECT client, n, part, content FROM log WHERE client = ? ORDER BY n, part', [client])
    const expected = Array.from({ length: n }, (_, i) => Array.from({ length: partsOf(client, i + 1) }, (__, part) => rowOf(client, i + 1, part))).flat()
    assert.deepEqual(rows, expected, `the rows of client ${client} after ${n} writes`)
    assert.equal(parts, expected.length, `the parts counted of client ${client}`)
    made.push(n)
  }
  return made
}

/** Migrations are there as a whole: at least `acknowledged` of them, at most `begun`. */
export async function checkMigrations(db: Database, { acknowledged, begun }: Writes): Promise<void> {
  const tables = await db.query<{ name: string }>("SELECT name FROM sqlite_schema WHERE type = 'table'")
  const applied = tables.some(({ name }) => name === 'zqlite_migration') ? await db.values('SELECT version FROM zqlite_migration ORDER BY version') : []
  assert(applied.length >= acknowledged && applied.length <= begun, `${applied.length} migrations are there, ${acknowledged} were acknowledged, ${begun} begun`)
  const more = tables.filter(({ name }) => name.startsWith('more_')).length
  assert.equal(more, Math.max(applied.length - 1, 0), 'tables made by migrations')
  for (let version = 2; version <= applied.length; version++) {
    assert.deepEqual(await db.values(`SELECT count(*), bitmap_count('more_${version}_bits', 'a > 0') FROM more_${version}`), [[2, 2]])
  }
}

/** Whether an index may be there, and may not, by its name. */
export type Indexes = Map<string, { there: boolean; absent: boolean }>

/** Indexes whose making or dropping was acknowledged are, or are not; what they answer is what their tables hold. */
export async function checkDefinitions(db: Database, indexesThen: Indexes): Promise<void> {
  const own = await checkIndexes(db)
  const others = await db.values("SELECT name FROM sqlite_schema WHERE type = 'index' AND name LIKE 'log_by%'")
  const names = new Set([...own, ...others.map(([name]) => String(name))])
  for (const [name, { there, absent }] of indexesThen) {
    assert(names.has(name) ? there : absent, `the index ${name} is ${names.has(name) ? 'there, but was dropped' : 'not there, but was made'}`)
    indexesThen.set(name, { there: names.has(name), absent: !names.has(name) })
  }
}
