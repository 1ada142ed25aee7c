/** Indexes of each kind under attack: the statements of `indexes.sql`, which the attacks in Rust use as well. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import type { Database } from 'zqlite'

interface Part {
  /** `make`, `index` or `compare`. */
  what: string
  /** The index that it is about. */
  name: string
  sql: string
}

/** The child that is killed is bundled, and finds a copy beside itself. */
export const SOURCE = new URL('indexes.sql', import.meta.url)

const parts: readonly Part[] = readFileSync(SOURCE, 'utf8')
  .split(/^-- /m)
  .slice(1)
  .map((part) => {
    const [, what, name, sql] = /^(\w+) (\w+)[^\n]*\n([^]*)$/.exec(part)!
    return { what: what!, name: name!, sql: sql!.trim() }
  })

/** The tables, and the trigger that has them follow a table `log`. */
export const makeTables = parts.filter(({ what }) => what === 'make').map(({ sql }) => sql)
/** An index of each kind. */
export const ownIndexes = parts.filter(({ what }) => what === 'index')
/** Queries that give a row for each place where an index and its table differ. */
export const comparisons = parts.filter(({ what }) => what === 'compare')

/** Compares the indexes that the file has with their tables; returns their names. */
export async function checkIndexes(db: Database): Promise<string[]> {
  const tablesThere = await db.values("SELECT 1 FROM sqlite_schema WHERE name = 'zqlite_index'")
  if (tablesThere.length === 0) return []
  const names = (await db.values('SELECT name FROM zqlite_index')).map(([name]) => String(name))
  for (const { name, sql } of comparisons) {
    if (names.includes(name)) assert.deepEqual(await db.query(sql), [], `${name} and its table differ`)
  }
  return names
}
