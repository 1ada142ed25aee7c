/** Both module kinds: `import` and `require` work in real processes, and give the same classes. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { folder } from './helpers'

/** Runs a program in a folder that has zqlite installed, and returns what it prints. */
function run(t: ExecutionContext, file: string, program: string): string[] {
  const path = folder(t)
  mkdirSync(join(path, 'node_modules'))
  symlinkSync(process.cwd(), join(path, 'node_modules', 'zqlite'))
  writeFileSync(join(path, file), program)
  return execFileSync(process.execPath, [file], { cwd: path, encoding: 'utf8' }).trim().split('\n')
}

const use = `
const db = await Database.open(':memory:')
await db.execute('CREATE TABLE t (a)')
await db.execute('INSERT INTO t VALUES (?)', [7])
console.log(JSON.stringify(await db.query('SELECT a FROM t')))
console.log(await db.query('SELECT wrong').catch((error) => error instanceof ZqliteError && error.code))
await db.close()
`
const used = ['[{"a":7}]', 'ERR_SQL']

test('import, in a process of its own', (t) => {
  t.deepEqual(run(t, 'main.mjs', `import { Database, ZqliteError } from 'zqlite'\n${use}`), used)
})

test('require, in a process of its own', (t) => {
  t.deepEqual(run(t, 'main.cjs', `const { Database, ZqliteError } = require('zqlite')\nvoid (async () => {${use}})()`), used)
})

test('import(), from CommonJS', (t) => {
  t.deepEqual(run(t, 'main.cjs', `void (async () => { const { Database, ZqliteError } = await import('zqlite')\n${use}})()`), used)
})

test('import * as a namespace', (t) => {
  t.deepEqual(run(t, 'main.mjs', `import * as zqlite from 'zqlite'\nconst { Database, ZqliteError } = zqlite\n${use}`), used)
})

test('a program that does both gets the same of everything', (t) => {
  const [names = '', same = ''] = run(t, 'main.mjs', `
import { createRequire } from 'node:module'
import * as imported from 'zqlite'
const required = createRequire(import.meta.url)('zqlite')
const names = Object.keys(required).sort()
console.log(JSON.stringify([names, Object.keys(imported).sort()]))
console.log(names.every((name) => imported[name] === required[name]))
`)
  const [required, imported] = JSON.parse(names) as [string[], string[]]
  t.deepEqual(imported, required)
  t.true(required.includes('Database') && required.includes('ZqliteError'))
  t.is(same, 'true')
})

test('an error of a required database is an instance of the imported class', (t) => {
  t.deepEqual(run(t, 'main.mjs', `
import { createRequire } from 'node:module'
import { ZqliteError } from 'zqlite'
const { Database } = createRequire(import.meta.url)('zqlite')
const db = await Database.open(':memory:')
console.log(await db.query('SELECT wrong').catch((error) => error instanceof ZqliteError))
await db.close()
`), ['true'])
})

test('what the package exports is in it, and nothing else can be reached', (t) => {
  interface Package { files: string[]; exports: Record<string, { import: Record<string, string>; require: Record<string, string> }> }
  const { files, exports } = JSON.parse(readFileSync('package.json', 'utf8')) as Package
  const main = exports['.']
  const targets = [main?.import, main?.require].flatMap((target) => Object.entries(target ?? {}))
  t.deepEqual(targets.map(([condition]) => condition), ['types', 'default', 'types', 'default'], 'types come first, or they are not found')
  for (const [, target] of targets) t.true(files.includes(target.replace('./', '')), target)
  t.throws(() => createRequire(join(process.cwd(), 'package.json'))('zqlite/dist/lib/database.js'), { code: 'ERR_PACKAGE_PATH_NOT_EXPORTED' })
})
