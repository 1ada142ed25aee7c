/** The examples of the page about the database run as printed. */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { blocks, runProgram } from './helpers'

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
  const [, options = '', places = ''] = blocks(page, 'js')
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
