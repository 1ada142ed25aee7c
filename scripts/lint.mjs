// `npm run lint`: every check that needs no test run. All of them run; any that fails makes the whole fail.
import { run, say, setup } from './setup.mjs'

setup()

/** @type {[name: string, command: string, args: string[]][]} */
const checks = [
  ['rustfmt', 'cargo', ['fmt', '--all', '--check']],
  // Cargo.toml denies `unsafe` without a SAFETY comment, unwrap, expect and panic outside tests.
  ['clippy', 'cargo', ['clippy', '--workspace', '--all-targets', '--quiet', '--', '-D', 'warnings']],
  // Not part of any build but that of the fuzz targets, which take a nightly compiler.
  ['clippy, entries for fuzzing', 'cargo', ['clippy', '-p', 'zqlite-cidr', '-p', 'zqlite-store', '--features', 'zqlite-cidr/fuzzing,zqlite-store/fuzzing', '--quiet', '--', '-D', 'warnings']],
  ['tsc, zqlite', 'npx', ['tsc', '-p', '.', '--noEmit']],
  ['tsc, ghostwire', 'npx', ['tsc', '-p', 'ghostwire', '--noEmit']],
  ['tsc, tests', 'npx', ['tsc', '-p', 'tsconfig.tests.json']],
  ['oxlint', 'npx', ['oxlint', '--type-aware', '--deny-warnings']],
  ['index.d.ts is current', 'npx', ['api-extractor', 'run']],
  ['notices are current', 'node', ['scripts/notices.mjs', '--check']],
  ['licences of npm packages', 'node', ['scripts/licences.mjs']],
  ['workflows', 'node', ['scripts/workflows.mjs']],
  ['publint, zqlite', 'npx', ['publint', '--strict', '--pack', 'npm']],
  ['publint, ghostwire', 'npx', ['publint', 'ghostwire', '--strict', '--pack', 'npm']],
]

const failed = checks.filter(([name, command, args]) => {
  say(`# ${name}`)
  return run(command, args) !== 0
})
for (const [name] of failed) say(`lint failed: ${name}`)
say(`${checks.length - failed.length} of ${checks.length} lints clean`)
process.exit(failed.length > 0 ? 1 : 0)
