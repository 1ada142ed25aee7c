/** The guides' examples run as printed and print what they say, and the calls that the guides name exist. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Database } from 'zqlite'
import { fresh, printsWhatItSays } from './helpers'

for (const guide of ['from-better-sqlite3', 'from-node-sqlite', 'from-pg']) {
  const path = join('docs', `${guide}.md`)
  const page = readFileSync(path, 'utf8')

  test(`the examples of ${guide} print what they say`, (t) => printsWhatItSays(t, path))

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
