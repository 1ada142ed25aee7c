/** Types as `require` gives them. Checked by the compiler and never run: a `@ts-expect-error` that expects nothing is an error. */
import zqlite = require('zqlite')
import { type Database, type ErrorCode, ZqliteError } from 'zqlite'

async function use(): Promise<number> {
  const db: Database = await zqlite.Database.open(':memory:', { cacheSize: '1MB' })
  const rows: { a: number }[] = await db.query<{ a: number }>('SELECT 1 AS a')
  // @ts-expect-error rows are objects
  const text: string = rows[0]
  void text
  const code: ErrorCode = new ZqliteError('ERR_SQL', 'mine').code
  // @ts-expect-error no such code
  void new zqlite.ZqliteError('ERR_NOTHING', code)
  // @ts-expect-error no default export
  void zqlite.default
  return rows.length
}
void use()
