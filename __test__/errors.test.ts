/** One error catalogue: the same in Rust, TypeScript and the documentation. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import test from 'ava'
import { errorCatalogue } from 'zqlite'

interface Entry {
  code: string
  retryable: boolean
  description: string
}

const typescript: Entry[] = Object.entries(errorCatalogue).map(([code, { retryable, description }]) => ({ code, retryable, description }))

test('Rust and TypeScript agree, in order: packed answers name errors by number', (t) => {
  const native = createRequire(join(process.cwd(), 'package.json'))('./dist/native.js') as { errorCatalogue(): Entry[] }
  t.deepEqual(native.errorCatalogue(), typescript)
})

test('the documentation has the same list', (t) => {
  const page = readFileSync('docs/errors.md', 'utf8')
  const section = page.split(/^## /m).find((part) => part.startsWith('zqlite')) ?? ''
  const documented = [...section.matchAll(/^\| `(ERR_\w+)` \| (yes|no) \| (.*) \|$/gm)].map(([, code, retryable, description]) => ({
    code,
    retryable: retryable === 'yes',
    description,
  }))
  t.deepEqual(documented, typescript)
})
