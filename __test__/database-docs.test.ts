/** The examples of the page about the database run as printed. */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { blocks, fresh, runProgram } from './helpers'

const page = join('docs', 'database.md')

test('the first example', (t) => {
  const [first = ''] = blocks(page, 'js')
  t.true(first.includes('await using'))
  // Which the page says needs a newer Node than the oldest one.
  const program = Number(process.versions.node.split('.')[0]) < 24 ? `${first.replace('await using', 'const')}\nawait db.close()` : first
  t.deepEqual(runProgram(t, program).lines, ['1 hello'])
})

test('options from TOML reach the database, and places are found nearby', (t) => {
  const [toml = ''] = blocks(page, 'toml')
  const [, options = '', , places = ''] = blocks(page, 'js')
  const program = `import { Database } from 'zqlite'
${options}
${places}
console.log(nearest.map(({ name }) => name).join())
await db.execute('CREATE TABLE archive.old (a)')
console.log((await db.get('PRAGMA zqlite_cache_size')).zqlite_cache_size)
console.log(await db.query('SELECT ' + '?,'.repeat(1000) + '?', Array(1001).fill(1)).catch(({ code }) => code))
await db.close()
await Database.open(path, { ...options, pool: { ...options.pool, maxConnections: 201 } }).catch(({ code, message }) => console.log(code, message))`
  const { path, lines } = runProgram(t, program, { 'app.toml': toml })
  t.deepEqual(lines, ['berlin,paris', String(128 * 2 ** 20), 'ERR_SQL', 'ERR_TYPE pool.maxConnections must be a whole number from 5 to 200, not 201'])
  t.true(statSync(join(path, 'app.db')).size > 0 && statSync(join(path, 'archive.db')).size > 0)
})

test('who watches sees calls, slow ones, and metrics', (t) => {
  const [, , watching = ''] = blocks(page, 'js')
  const { lines } = runProgram(t, watching)
  t.deepEqual(lines.slice(0, 2).sort(), ['query reader', 'true WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000) SELECT max(i) FROM n'])
  t.regex(lines[2] ?? '', /^zqlite_queries_total\{operation="write",lane="writer"\} \d+$/)
})

test('the page lists the metrics as they are', async (t) => {
  const listed = [...readFileSync(page, 'utf8').matchAll(/^\| `(zqlite_\w+)` \| (counter|gauge|histogram) \| (.*?) ?\| (.*) \|$/gm)].map(([, name, type, labels, help]) => ({ name, type, labels, help }))
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a)')
  const text = db.prometheus()
  const found = [...text.matchAll(/^# HELP (\w+) (.*)\n# TYPE \w+ (\w+)\n\w+?(?:\{(.*?)\})? /gm)].map(([, name, help, type, first = '']) => ({
    name,
    type,
    labels: [...first.matchAll(/(\w+)=/g)].flatMap(([, label]) => (label === 'le' ? [] : [`\`${label}\``])).join(', '),
    help,
  }))
  t.deepEqual(listed, found)
})
