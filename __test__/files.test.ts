/** Files: who may read them, who else uses them, and that the locks on them stand as long as they are open. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { linkSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Database } from 'zqlite'
import { folder, fresh, rejects } from './helpers'

/** The kinds of lock that this process holds on a file, by the kernel's table. */
function locks(path: string): string[] {
  const { ino } = statSync(path)
  const lines = readFileSync('/proc/locks', 'utf8').split('\n').map((line) => line.trim().split(/\s+/))
  return lines.filter(([, , , , pid, file]) => pid === String(process.pid) && file?.endsWith(`:${ino}`)).map(([, kind]) => kind ?? '').sort()
}

/** What another process answers to one line of JavaScript about the file. */
async function elsewhere(path: string, run: string): Promise<unknown> {
  const script = `const { Database } = require('zqlite'); const path = ${JSON.stringify(path)}; (async () => { ${run} })().then((v) => console.log(JSON.stringify(v ?? null)), (e) => console.log(JSON.stringify(e.code)))`
  const child = spawn(process.execPath, ['-e', script], { cwd: __dirname, stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  for await (const chunk of child.stdout) output += chunk
  return JSON.parse(output)
}

test('everything that is made beside the file is private too', async (t) => {
  const other = join(folder(t), 'other.db')
  const db = await fresh(t, { attach: { other } })
  await db.execute('CREATE TABLE t (a)')
  await db.execute('CREATE TABLE other.u (a)')
  db.getSync('SELECT 1')
  await db.backup(`${db.path}.copy`)
  const files = [dirname(db.path), dirname(other)].flatMap((path) => readdirSync(path).map((name) => join(path, name)))
  t.true(files.length >= 7, files.join(' '))
  for (const file of files) t.is(statSync(file).mode & 0o777, 0o600, file)
})

test('the locks of an open database outlive those who read, back up or fail to open the same file beside it', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a)')
  const both = ['FLOCK', 'POSIX']
  t.deepEqual(locks(db.path), both)
  const reader = await Database.open(db.path, { readonly: true })
  t.deepEqual(locks(db.path), both)
  await reader.close()
  t.deepEqual(locks(db.path), both)
  await rejects(t, 'ERR_LOCKED_BY_PROCESS', Database.open(join(folder(t), 'a.db'), { attach: { it: db.path } }))
  t.deepEqual(locks(db.path), both)
  const attached = await Database.open(join(folder(t), 'b.db'), { attach: { it: { path: db.path, readonly: true } } })
  t.deepEqual(await attached.query('SELECT * FROM it.t'), [])
  await attached.close()
  await rejects(t, 'ERR_CANNOT_OPEN', db.backup(db.path, { overwrite: true }))
  t.deepEqual(locks(db.path), both)
  await Promise.all([1, 2, 3].map(async () => (await Database.open(db.path)).close()))
  t.deepEqual(locks(db.path), both)
})

test('who reads keeps its lock when the owner goes, and the file can be owned again', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a)')
  await db.execute('INSERT INTO t VALUES (1)')
  const reader = await Database.open(db.path, { readonly: true })
  t.teardown(() => reader.close())
  await db.close()
  t.deepEqual(locks(db.path), ['POSIX'])
  t.is(await elsewhere(db.path, 'const db = await Database.open(path); await db.execute("INSERT INTO t VALUES (2)"); await db.close()'), null)
  t.deepEqual(await reader.query('SELECT a FROM t'), [{ a: 1 }, { a: 2 }])
  const again = await Database.open(db.path)
  t.is(await elsewhere(db.path, 'await Database.open(path)'), 'ERR_LOCKED_BY_PROCESS')
  await again.close()
  t.deepEqual(locks(db.path), ['POSIX'])
})

test('links lead to one database, and a child that outlives its parent does not hold the file', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a)')
  const path = folder(t)
  linkSync(db.path, join(dirname(db.path), 'hard.db'))
  symlinkSync(dirname(db.path), join(path, 'folder'))
  mkdirSync(join(path, 'x'))
  for (const other of [join(dirname(db.path), 'hard.db'), join(path, 'folder', 'test.db'), join(path, 'x', '..', 'folder', '..', 'folder', 'test.db')]) {
    const same = await Database.open(other)
    await same.execute('INSERT INTO t VALUES (1)')
    await same.close()
    t.is(await elsewhere(other, 'await Database.open(path)'), 'ERR_LOCKED_BY_PROCESS', other)
  }
  t.deepEqual(await db.get('SELECT count(*) AS n FROM t'), { n: 3 })
  const child = spawn('sleep', ['20'], { stdio: 'ignore' })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child, 'spawn')
  await db.close()
  t.is(await elsewhere(db.path, 'await (await Database.open(path)).close(); return "free"'), 'free')
})

async function filled(t: ExecutionContext): Promise<Database & { path: string }> {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)')
  await db.executeBatchTransaction(Array.from({ length: 300 }, () => ({ sql: 'INSERT INTO t (data) VALUES (randomblob(2000))' })))
  return db
}

test('a backup never takes the place of a database that is in use, nor lies down beside a log that is not its own', async (t) => {
  const db = await filled(t)
  const other = await filled(t)
  await rejects(t, 'ERR_CANNOT_OPEN', db.backup(db.path, { overwrite: true }))
  await rejects(t, 'ERR_CANNOT_OPEN', db.backup(other.path, { overwrite: true }))
  t.deepEqual(await db.get('SELECT count(*) AS n FROM t'), { n: 300 })
  // Nor one without a log, of this process or another.
  await other.checkpoint('truncate')
  t.regex((await rejects(t, 'ERR_CANNOT_OPEN', db.backup(other.path, { overwrite: true }))).message, /this process has open/)
  await other.close()
  const script = `const { Database } = require('zqlite'); Database.open(${JSON.stringify(other.path)}).then(async (db) => { await db.checkpoint('truncate'); console.log('open'); setTimeout(() => {}, 20000) })`
  const child = spawn(process.execPath, ['-e', script], { cwd: __dirname, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  await rejects(t, 'ERR_LOCKED_BY_PROCESS', db.backup(other.path, { overwrite: true }))
  child.kill('SIGKILL')
  await once(child, 'close')
  // What a database that is gone has left.
  const orphan = join(folder(t), 'copy.db')
  writeFileSync(`${orphan}-wal`, 'a log')
  t.regex((await rejects(t, 'ERR_CANNOT_OPEN', db.backup(orphan))).message, /has a log beside it \(-wal\)/)
})

test('of two backups to one place at once one is made, whole', async (t) => {
  const db = await filled(t)
  const path = join(folder(t), 'copy.db')
  const settled = await Promise.allSettled([1, 2, 3].map(() => db.backup(path, { overwrite: true, pagesPerStep: 5, pause: 1 })))
  t.is(settled.filter(({ status }) => status === 'fulfilled').length, 1)
  for (const outcome of settled) if (outcome.status === 'rejected') t.true(['ERR_LOCKED_BY_PROCESS', 'ERR_CANNOT_OPEN'].includes((outcome.reason as { code: string }).code))
  t.deepEqual(readdirSync(dirname(path)), ['copy.db'])
  // What a backup that was killed has left is no hindrance.
  writeFileSync(`${path}-partial`, 'x'.repeat(100_000))
  await db.backup(path, { overwrite: true })
  t.deepEqual(readdirSync(dirname(path)), ['copy.db'])
  const copy = await Database.open(path)
  t.deepEqual(await copy.get('PRAGMA integrity_check'), { integrity_check: 'ok' })
  t.deepEqual(await copy.get('SELECT count(*) AS n FROM t'), { n: 300 })
  await copy.close()
})

test('a backup that rests notices at once that it is given up', async (t) => {
  const db = await filled(t)
  const path = join(folder(t), 'copy.db')
  const controller = new AbortController()
  const started = performance.now()
  const progress = (): void => controller.abort()
  await rejects(t, 'ERR_CANCELLED', db.backup(path, { pagesPerStep: 5, pause: '10m', progress, signal: controller.signal }))
  await rejects(t, 'ERR_DEADLINE', db.backup(path, { pagesPerStep: 5, pause: '10m', timeout: '50ms' }))
  t.true(performance.now() - started < 5_000)
  t.deepEqual(readdirSync(dirname(path)), [])
  await rejects(t, 'ERR_TYPE', db.backup(path, { overwrite: 'yes' as never }))
  await rejects(t, 'ERR_TYPE', db.backup(path, { progress: 5 as never }))
  await db.backup(path, { timeout: '1m' })
})
