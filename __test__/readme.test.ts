/** The README's example runs as printed. */
import { execFileSync } from 'node:child_process'
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { folder } from './helpers'

test('the example of the README prints what it says', (t) => {
  const [, example = ''] = /```js\n(.*?)```/s.exec(readFileSync('README.md', 'utf8')) ?? []
  const path = folder(t)
  symlinkSync(join(process.cwd(), 'node_modules'), join(path, 'node_modules'))
  writeFileSync(join(path, 'example.mjs'), example)
  const output = execFileSync(process.execPath, ['example.mjs'], { cwd: path, encoding: 'utf8' })
  const lines = output.split('\n')
  t.is(lines[0], '10')
  t.regex(lines[1] ?? '', /^\{ item: 'lamp', left: 0 \} \{/)
  t.is(lines.at(-2), '{ allowed: true, rule: 7 }')
})
