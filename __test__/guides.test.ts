/** The guides' examples run as printed and print what they say, and the calls that the guides name exist. */
import { execFileSync } from 'node:child_process'
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Database } from 'zqlite'
import { folder, fresh } from './helpers'

for (const guide of ['from-better-sqlite3', 'from-node-sqlite', 'from-pg']) {
  const page = readFileSync(join('docs', `${guide}.md`), 'utf8')

  test(`the example of ${guide} prints what it says`, (t) => {
    const [, example = ''] = /```js\n(.*?)```/s.exec(page) ?? []
    const expected = [...example.matchAll(/\/\/ → (.*)$/gm)].map(([, line]) => line)
    t.true(expected.length > 0)
    const path = folder(t)
    symlinkSync(join(process.cwd(), 'node_modules'), join(path, 'node_modules'))
    writeFileSync(join(path, 'example.mjs'), example)
    const output = execFileSync(process.execPath, ['example.mjs'], { cwd: path, encoding: 'utf8' })
    t.deepEqual(output.trim().split('\n'), expected)
  })

  test(`the calls that ${guide} names exist`, async (t) => {
    const db = await fresh(t)
    const tx = await db.transaction(async (given) => given)
    // The second column of each table: what things become here.
    const cells = [...page.matchAll(/^\|.*?\|(.*?)\|/gm)].map(([, cell]) => cell).join('\n')
    const calls = [...cells.matchAll(/\b(Database|db|tx)\.(\w+)\(/g)]
    t.true(calls.length > 10)
    for (const [call, object, name = ''] of calls) t.true(name in { Database, db, tx }[object as 'db'], `${call})`)
  })
}
