// `npm run torture -- ATTACK [options]`: builds what the attack needs and runs it, see docs/reliability.md.
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { root, run, say, setup } from './setup.mjs'

/** What each attack is, and in which language. */
const attacks = {
  kill: ['a process that writes is killed, again and again (--rounds 50)', 'ts'],
  power: ['the power fails at any moment (--rounds 200)', 'rust'],
  io: ['every call to the file system fails in turn; a full disk; libfiu', 'rust'],
  corrupt: ['bytes of the database and its log change (--rounds 400)', 'rust'],
  'corrupt-journal': ["the same of Ghostwire's journal (--rounds 400)", 'ts'],
  model: ['random calls against a model, group commit on and off (--rounds 100)', 'ts'],
  config: ['random durations, sizes and options (--rounds 10000)', 'ts'],
  workers: ['worker threads end with work in flight (--rounds 1000)', 'ts'],
  leaks: ['a database is opened and closed again and again (--rounds 500)', 'ts'],
}

const [attack, ...options] = process.argv.slice(2)
if (!(attack in attacks)) {
  say('usage: npm run torture -- ATTACK [--rounds N] [--seed S] [--json FILE]\n')
  for (const [name, [what]] of Object.entries(attacks)) say(`  ${name.padEnd(15)} ${what}`)
  process.exit(attack === undefined || attack === '--help' ? 0 : 2)
}

setup()
if (attacks[attack][1] === 'rust') {
  build('zqlite-torture')
  finish(spawnSync(join(root, 'target/debug/zqlite-torture'), [attack, ...options], { stdio: 'inherit' }))
} else {
  const env = { ...process.env }
  if (attack === 'kill') env.TORTURE_ADDON = addon()
  finish(spawnSync(process.execPath, ['--import=tsx', '--expose-gc', join(root, 'torture/run.ts'), attack, ...options], { cwd: root, stdio: 'inherit', env }))
}

/** Ends as the attack did. */
function finish({ status, signal, error }) {
  if (error) say(`error: ${error.message}`)
  if (signal) say(`error: the attack itself was ended by ${signal}`)
  process.exit(status ?? 1)
}

function build(name, ...flags) {
  if (run('cargo', ['build', '--quiet', '-p', name, ...flags]) !== 0) {
    say(`error: ${name} cannot be built; see above`)
    process.exit(1)
  }
}

/** The addon with fail points, which the one in `dist` never has. */
function addon() {
  build('zqlite-node', '--features', 'fail_points')
  const folder = join(root, 'target/torture')
  mkdirSync(folder, { recursive: true })
  const library = process.platform === 'darwin' ? 'libzqlite_node.dylib' : 'libzqlite_node.so'
  copyFileSync(join(root, 'target/debug', library), join(folder, 'zqlite.node'))
  return join(folder, 'zqlite.node')
}
