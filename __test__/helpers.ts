/** What several tests need: temporary folders, databases, and the examples of pages as programs. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { Database, type DatabaseOptions, type ErrorCode, ZqliteError } from 'zqlite'

/** A folder that is gone after the test. */
export function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'zqlite-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** An open database in a folder of its own, closed after the test. */
export async function fresh(t: ExecutionContext, options?: DatabaseOptions): Promise<Database & { path: string }> {
  const path = join(folder(t), 'test.db')
  const db = await Database.open(path, options)
  t.teardown(() => db.close())
  return Object.assign(db, { path })
}

/** Asserts that a promise rejects with this code, and returns the error. */
export async function rejects(t: ExecutionContext, code: ErrorCode, promise: Promise<unknown>): Promise<ZqliteError> {
  const error = await t.throwsAsync(promise, { instanceOf: ZqliteError })
  t.is(error.code, code, error.message)
  return error
}

/** What stands in a page between ```language and ```. */
export const blocks = (page: string, language: string): string[] =>
  [...readFileSync(page, 'utf8').matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 'gs'))].map(([, block = '']) => block)

/** Runs a program as a user would, who has installed the package in its folder; `files` lie beside it. */
export function runProgram(t: ExecutionContext, program: string, files: Record<string, string> = {}): { path: string; lines: string[] } {
  const path = folder(t)
  symlinkSync(join(process.cwd(), 'node_modules'), join(path, 'node_modules'))
  for (const [name, text] of Object.entries({ ...files, 'example.mjs': program })) writeFileSync(join(path, name), text)
  const output = execFileSync(process.execPath, ['example.mjs'], { cwd: path, encoding: 'utf8' })
  return { path, lines: output.trim().split('\n') }
}

/** Every example of a page prints what its comments say: `// → …`, a line each. */
export function printsWhatItSays(t: ExecutionContext, page: string): void {
  const examples = blocks(page, 'js')
  t.true(examples.length > 0)
  for (const example of examples) {
    const expected = [...example.matchAll(/\/\/ → (.*)$/gm)].map(([, line]) => line)
    t.true(expected.length > 1)
    t.deepEqual(runProgram(t, example).lines, expected)
  }
}
