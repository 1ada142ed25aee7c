// `npm run coverage [-- --markdown FILE]`: lines that the tests run, of the core crates (cargo-llvm-cov) and of what is written
// in TypeScript (c8), in one table. Fails below 90 % of the core crates or of the facade.
//
// The core crates are counted under their own tests alone; what JavaScript's tests reach in them comes on top.
import { spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { parseArgs } from 'node:util'
import { root, run, say, setup } from './setup.mjs'

const LEAST = 90
const CRATES = ['zqlite-cidr', 'zqlite-acl', 'zqlite-store', 'ghostwire-sync']
/** What counts for which line of the table, and whether it is held to the least. */
const AREAS = [
  ...CRATES.map((crate) => ({ name: `crates/${crate}`, prefix: `crates/${crate}/src/`, held: true })),
  { name: 'facade (lib)', prefix: 'lib/', held: true },
  { name: 'ghostwire/src', prefix: 'ghostwire/src/', held: false },
]
const OUT = join(root, 'coverage')

const { values } = parseArgs({ options: { markdown: { type: 'string' } } })
setup()
mkdirSync(OUT, { recursive: true })
const files = new Map([...rust(), ...typescript('.', ['dist/lib/**', 'lib/**']), ...typescript('ghostwire', ['src/**', 'dist/**'])])
const rows = AREAS.map(({ name, prefix, held }) => {
  const lines = { total: 0, covered: 0 }
  for (const [file, { total, covered }] of files) {
    if (!file.startsWith(prefix)) continue
    lines.total += total
    lines.covered += covered
  }
  return { name, held, ...lines, percent: lines.total === 0 ? 0 : (lines.covered / lines.total) * 100 }
})
const together = rows.reduce((sum, { total, covered }) => ({ total: sum.total + total, covered: sum.covered + covered }), { total: 0, covered: 0 })
const table = [
  '| | lines | covered | |',
  '|---|---|---|---|',
  ...[...rows, { name: 'together', ...together, percent: (together.covered / together.total) * 100 }].map(({ name, total, covered, percent }) => `| ${name} | ${total} | ${covered} | ${percent.toFixed(1)} % |`),
  '',
].join('\n')
process.stdout.write(table)
if (values.markdown !== undefined) appendFileSync(values.markdown, table)
const low = rows.filter(({ held, percent }) => held && percent < LEAST)
for (const { name, percent } of low) say(`error: ${name} has ${percent.toFixed(1)} % of its lines covered, and ${LEAST} are wanted`)
process.exitCode = low.length > 0 ? 1 : 0

function rust() {
  const report = join(OUT, 'rust.json')
  const args = ['llvm-cov', ...CRATES.flatMap((crate) => ['--package', crate]), '--json', '--summary-only', '--output-path', report]
  if (run('cargo', args, { env: { ...process.env, ...llvm() } }) !== 0) fail('the Rust tests failed, or there is no cargo-llvm-cov (`cargo install cargo-llvm-cov`), or no LLVM tools of the compiler (`rustup component add llvm-tools`, or Debian\'s llvm of the number that `rustc -vV` says); see above')
  return JSON.parse(readFileSync(report, 'utf8')).data[0].files.map(({ filename, summary }) => [fromRoot(filename), { total: summary.lines.count, covered: summary.lines.covered }])
}

/** The tools of the compiler's LLVM: rustup's `llvm-tools`, or those of the system with the same number (Debian: `llvm-22`). */
function llvm() {
  const [, version] = /LLVM version: (\d+)/.exec(spawnSync('rustc', ['-vV'], { encoding: 'utf8' }).stdout ?? '') ?? []
  const tools = { LLVM_COV: `/usr/bin/llvm-cov-${version}`, LLVM_PROFDATA: `/usr/bin/llvm-profdata-${version}` }
  return Object.values(tools).every((path) => existsSync(path)) ? tools : {}
}

function typescript(workspace, include) {
  const folder = join(OUT, workspace === '.' ? 'zqlite' : workspace)
  const c8 = join(root, 'node_modules/c8/bin/c8.js')
  const ava = join(root, 'node_modules/ava/entrypoints/cli.mjs')
  const args = [c8, '--reporter=json-summary', `--report-dir=${folder}`, `--temp-directory=${join(folder, 'raw')}`, '--exclude-after-remap', ...include.map((glob) => `--include=${glob}`), process.execPath, ava]
  if (run(process.execPath, args, { cwd: join(root, workspace) }) !== 0) fail(`the tests of ${workspace === '.' ? 'zqlite' : workspace} failed; see above`)
  return Object.entries(JSON.parse(readFileSync(join(folder, 'coverage-summary.json'), 'utf8')))
    .filter(([file]) => file !== 'total')
    .map(([file, { lines }]) => [fromRoot(file), lines])
}

function fromRoot(file) {
  return relative(root, file).split(sep).join('/')
}

function fail(line) {
  say(`error: ${line}`)
  process.exit(1)
}
