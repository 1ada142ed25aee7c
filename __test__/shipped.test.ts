/** What the package ships has none of what the torture harness compiles in. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'

test('the addon has no fail points', (t) => {
  const addons = readdirSync('dist').filter((name) => name.endsWith('.node'))
  t.true(addons.length > 0)
  for (const name of addons) {
    const addon = readFileSync(join('dist', name))
    // A word that is there, so that looking for others means something.
    t.true(addon.includes('ERR_COMMIT_UNKNOWN'))
    for (const word of ['ZQLITE_FAIL_POINT', 'ZQLITE_WEAKNESS', 'writer.before-commit']) t.false(addon.includes(word), `${name}: ${word}`)
  }
})
