// `npm test`: sets up, runs the Rust tests and the ava tests of every workspace, and ends with `N passed, N failed`.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { root, say, setup } from './setup.mjs'

setup()

const total = { passed: 0, failed: 0, skipped: 0 }

await suite('Rust tests', 'cargo', ['test', '--workspace', '--quiet', '--no-fail-fast'], root, ofCargo)
await suite('interleavings of the lanes', 'cargo', ['test', '--quiet', '-p', 'zqlite-store', '--features', 'shuttle', '--lib', 'interleaved'], root, ofCargo)
for (const workspace of ['.', 'ghostwire']) {
  const ava = join(root, 'node_modules/ava/entrypoints/cli.mjs')
  await suite(`ava tests of ${workspace === '.' ? 'zqlite' : workspace}`, process.execPath, [ava, '--tap'], join(root, workspace), (line) => {
    const [, what, n] = /^# (pass|fail|skip) (\d+)/.exec(line) ?? []
    if (what !== undefined) count(what === 'pass' ? n : 0, what === 'fail' ? n : 0, what === 'skip' ? n : 0)
    // Passed tests are only counted; failures come with their explanation.
    return !/^(ok \d+|# (pass|fail|skip|tests) |\d+\.\.\d+|TAP version)/.test(line) || line.includes('# SKIP')
  })
}

// Each attack is a test, and so is each of its controls, which must fail to pass.
const attacks = [
  ['kill', '--rounds', '50'],
  ['power', '--rounds', '200'],
  ['io', '--every', '12'],
  ['corrupt', '--rounds', '400'],
  ['corrupt-journal', '--rounds', '150'],
  ['model', '--rounds', '100'],
  ['config', '--rounds', '2000'],
  ['workers', '--rounds', '40'],
  ['leaks', '--rounds', '300'],
]
for (const [attack, ...options] of attacks) {
  // It counts what /proc shows of a process.
  if (attack === 'leaks' && process.platform !== 'linux') {
    say('\n# torture: leaks: SKIPPED, it needs Linux')
    count(0, 0, 1)
    continue
  }
  await suite(`torture: ${attack}`, process.execPath, [join(root, 'scripts/torture.mjs'), attack, ...options], root, (line) => {
    const [, failed, controls, skipped] = /^[a-z-]+: \d+ rounds, (\d+) failed, (\d+) controls, (\d+) skipped/.exec(line) ?? []
    if (failed !== undefined) count(Number(failed) === 0 ? 1 + Number(controls) : 0, failed, skipped)
    return true
  })
}

say('')
process.stdout.write(`${total.passed} passed, ${total.failed} failed${total.skipped ? `, ${total.skipped} skipped` : ''}\n`)
process.exit(total.failed > 0 || total.passed === 0 ? 1 : 0)

function ofCargo(line) {
  const [, passed, failed, ignored] = /^test result: .*? (\d+) passed; (\d+) failed; (\d+) ignored/.exec(line) ?? []
  if (passed === undefined) return true
  count(passed, failed, ignored)
  return false
}

function count(passed, failed, skipped) {
  total.passed += Number(passed)
  total.failed += Number(failed)
  total.skipped += Number(skipped)
}

/** Runs one tool; `read` counts from its lines and says which of them to show. */
async function suite(title, command, args, cwd, read) {
  const started = Date.now()
  const before = { ...total }
  say(`\n# ${title}`)
  const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  const show = (stream) => createInterface({ input: stream }).on('line', (line) => read(line) && say(line))
  const lines = [show(child.stdout), show(child.stderr)]
  const closed = lines.map((reader) => new Promise((resolve) => reader.on('close', resolve)))
  const code = await new Promise((resolve) => {
    child.on('error', (error) => resolve(say(`cannot run ${command}: ${error.message}`)))
    child.on('exit', resolve)
  })
  await Promise.all(closed)
  // A tool that fails without a failed test did not get as far as its tests.
  if (code !== 0 && total.failed === before.failed) {
    total.failed++
    say(`${title}: ended with code ${code}`)
  }
  say(`# ${title}: ${total.passed - before.passed} passed, ${total.failed - before.failed} failed, ${((Date.now() - started) / 1000).toFixed(0)} s`)
}
