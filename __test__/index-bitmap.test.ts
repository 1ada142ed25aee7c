/** Indexes of kind `bitmap` in SQL and from JavaScript. */
import test from 'ava'
import { type Database, ZqliteError } from 'zqlite'
import { fresh, rejects } from './helpers'

async function rules(t: Parameters<typeof fresh>[0]): Promise<Database> {
  const db = await fresh(t)
  await db.execute('CREATE TABLE acl_rules (id INTEGER PRIMARY KEY, priority INTEGER, action TEXT, enabled INTEGER)')
  await db.execute('CREATE INDEX idx_acl_priority_bitmap ON acl_rules USING bitmap(priority, action, enabled)')
  await db.execute(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
     INSERT INTO acl_rules SELECT i, i % 200, iif(i % 3, 'allow', 'deny'), i % 2 FROM n`,
  )
  return db
}

const filter = `action = 'deny' AND enabled = 1 AND priority >= 100`

test('a filter is answered in SQL and in JavaScript as WHERE is', async (t) => {
  const db = await rules(t)
  const plain = await db.query<{ id: number }>(`SELECT id FROM acl_rules WHERE ${filter} ORDER BY id`)
  t.true(plain.length > 50)
  t.deepEqual(await db.query('SELECT id FROM bitmap_rows(?, ?)', ['idx_acl_priority_bitmap', filter]), plain)
  t.deepEqual(db.allSync(`SELECT id FROM bitmap_rows('idx_acl_priority_bitmap', 'action = ''deny'' AND enabled = 1 AND priority >= 100')`), plain)
  const index = db.bitmap('idx_acl_priority_bitmap')
  t.deepEqual([...index.rows(filter)].map(Number), plain.map(({ id }) => id))
  t.is(index.count(filter), plain.length)
  t.deepEqual(await db.get('SELECT bitmap_count(?, ?) AS n', ['idx_acl_priority_bitmap', filter]), { n: plain.length })
  await db.execute(`UPDATE acl_rules SET enabled = 0 WHERE action = 'deny'`)
  t.is(index.count(filter), 0)
  t.is(index.count('priority IN (1, 2) OR NOT (priority BETWEEN 2 AND 300)'), 15)
  t.deepEqual(await db.get('PRAGMA zqlite_bitmap'), { zqlite_bitmap: 1 })
})

test('what is no filter is told with its place', async (t) => {
  const db = await rules(t)
  const index = db.bitmap('IDX_ACL_PRIORITY_BITMAP')
  const error = t.throws(() => index.rows('enabled = 1 AND colour = 2'), { instanceOf: ZqliteError })
  t.is(error.code, 'ERR_FILTER_SYNTAX')
  t.true(error.message.includes('colour') && error.message.includes('16'), error.message)
  await rejects(t, 'ERR_FILTER_SYNTAX', db.query(`SELECT * FROM bitmap_rows('idx_acl_priority_bitmap', 'enabled = ')`))
  t.is(t.throws(() => index.count(7 as unknown as string), { instanceOf: ZqliteError }).code, 'ERR_TYPE')
  t.is(t.throws(() => db.cidr('idx_acl_priority_bitmap'), { instanceOf: ZqliteError }).code, 'ERR_INDEX_UNKNOWN')
  t.is(t.throws(() => db.bitmap('none'), { instanceOf: ZqliteError }).code, 'ERR_INDEX_UNKNOWN')
  await rejects(t, 'ERR_INDEX_DEFINITION', db.execute('CREATE INDEX i ON acl_rules USING bitmap(colour)'))
})
