/** The examples of the pages about indexes run as printed and print what they say. */
import { execFileSync } from 'node:child_process'
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { folder } from './helpers'

for (const page of ['cidr', 'bitmap', 'acl']) {
  test(`the example of ${page} prints what it says`, (t) => {
    const [, example = ''] = /```js\n(.*?)```/s.exec(readFileSync(join('docs', `${page}.md`), 'utf8')) ?? []
    const expected = [...example.matchAll(/\/\/ → (.*)$/gm)].map(([, line]) => line)
    t.true(expected.length > 1)
    const path = folder(t)
    symlinkSync(join(process.cwd(), 'node_modules'), join(path, 'node_modules'))
    writeFileSync(join(path, 'example.mjs'), example)
    const output = execFileSync(process.execPath, ['example.mjs'], { cwd: path, encoding: 'utf8' })
    t.deepEqual(output.trim().split('\n'), expected)
  })
}
