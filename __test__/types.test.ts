/** The public types: what is meant to compile compiles, and what is meant not to does not. */
import { spawnSync } from 'node:child_process'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { folder } from './helpers'

function compile(...args: string[]): { status: number | null; output: string } {
  const { status, stdout } = spawnSync(process.execPath, [join('node_modules', 'typescript', 'bin', 'tsc'), ...args], { encoding: 'utf8' })
  return { status, output: stdout }
}

test('every expectation about the types holds', (t) => {
  t.deepEqual(compile('-p', join('__test__', 'types')), { status: 0, output: '' })
})

test('an expectation that does not hold is noticed', (t) => {
  const path = folder(t)
  symlinkSync(join(process.cwd(), 'node_modules'), join(path, 'node_modules'))
  const program = (expectation: string) => `import { Database } from 'zqlite'\n// @ts-expect-error\n${expectation}\n`
  writeFileSync(join(path, 'right.mts'), program("void Database.open('app.db', { readOnly: true })"))
  writeFileSync(join(path, 'wrong.mts'), program("void Database.open('app.db', { readonly: true })"))
  const options = ['--ignoreConfig', '--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2023', '--lib', 'es2023,esnext.disposable', '--types', 'node']
  t.deepEqual(compile(...options, join(path, 'right.mts')), { status: 0, output: '' })
  const { status, output } = compile(...options, join(path, 'wrong.mts'))
  t.not(status, 0)
  t.regex(output, /wrong\.mts\(2,1\): error TS2578/)
})
