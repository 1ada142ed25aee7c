// Installs and builds what is missing or stale, saying so on standard error. Needs nothing but Node: it runs on a fresh
// clone before anything is installed.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const stamps = join(root, 'node_modules', '.zqlite-stamps')

/** Steps in order; a step runs when the files it reads have changed since it last succeeded, or what it makes is gone. */
const steps = [
  {
    name: 'install',
    title: 'installing npm packages',
    reads: ['package.json', 'package-lock.json', 'ghostwire/package.json'],
    makes: ['node_modules/.package-lock.json'],
    // Not `npm ci`: it refuses a lock file that lacks optional packages of other platforms which a registry does not have.
    run: () => run('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error']),
  },
  {
    name: 'zqlite-native',
    title: 'building the zqlite addon (about two minutes the first time)',
    reads: ['Cargo.toml', 'Cargo.lock', '.cargo', ...cores('zqlite-cidr', 'zqlite-acl', 'zqlite-store', 'zqlite-node')],
    makes: ['dist/binding.js'],
    needs: 'cargo',
    run: () => npm('build:native'),
  },
  {
    name: 'zqlite',
    title: 'compiling zqlite',
    reads: ['index.ts', 'native.ts', 'lib', 'tsconfig.json', 'api-extractor.json', 'dist/binding.d.ts'],
    makes: ['dist/index.js', 'index.d.ts'],
    run: () => npm('build:ts'),
  },
  {
    name: 'ghostwire-native',
    title: 'building the ghostwire addon',
    reads: ['Cargo.toml', 'Cargo.lock', '.cargo', ...cores('ghostwire-stun', 'ghostwire-sync', 'ghostwire-node')],
    makes: ['ghostwire/binding.cjs'],
    needs: 'cargo',
    run: () => npm('build:native', 'ghostwire'),
  },
  {
    name: 'ghostwire',
    title: 'compiling ghostwire',
    reads: ['ghostwire/src', 'ghostwire/tsconfig.json', 'ghostwire/native.d.cts', 'ghostwire/binding.d.cts', 'index.d.ts'],
    makes: ['ghostwire/dist/main.js'],
    run: () => npm('build', 'ghostwire'),
  },
]

/** Runs the stale steps. Ends the process with a clear line when one cannot succeed. */
export function setup() {
  checkNode()
  const stale = steps.filter((step) => isStale(step))
  for (const [i, step] of stale.entries()) {
    const started = Date.now()
    say(`[${i + 1}/${stale.length}] ${step.title} …`)
    if (step.needs === 'cargo') checkCargo()
    // Built by the step before this one, perhaps to the same result.
    if (step.run() !== 0) fail(`${step.title} failed; see above`)
    mkdirSync(stamps, { recursive: true })
    writeFileSync(join(stamps, step.name), digest(step.reads))
    say(`[${i + 1}/${stale.length}] done in ${((Date.now() - started) / 1000).toFixed(1)} s`)
  }
}

function isStale(step) {
  if (step.makes.some((path) => !existsSync(join(root, path)))) return true
  const stamp = join(stamps, step.name)
  return !existsSync(stamp) || readFileSync(stamp, 'utf8') !== digest(step.reads)
}

/** SHA-256 over names and contents, so that a checkout that only touches files builds nothing. */
function digest(paths) {
  const hash = createHash('sha256')
  const visit = (path) => {
    const full = join(root, path)
    if (!existsSync(full)) return
    let entries
    try {
      entries = readdirSync(full).toSorted()
    } catch {
      hash.update(`${path}\0`).update(readFileSync(full)).update('\0')
      return
    }
    for (const entry of entries) if (entry !== 'tests') visit(`${path}/${entry}`)
  }
  paths.forEach(visit)
  return hash.digest('hex')
}

function cores(...names) {
  return names.map((name) => `crates/${name}`)
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major < 20 || (major === 20 && minor < 19)) fail(`Node ${process.versions.node} is too old: 20.19 or newer is needed`)
}

function checkCargo() {
  if (spawnSync('cargo', ['--version']).status !== 0) {
    fail('the addons are written in Rust, and no `cargo` was found on PATH; install a stable Rust toolchain (rustup.rs) and try again')
  }
}

function npm(script, workspace) {
  return run('npm', ['run', '--silent', script, ...(workspace ? ['--workspace', workspace] : [])])
}

/** Runs a command with its output on standard error; returns its exit code. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2], ...options })
  if (result.error) fail(`cannot run ${command}: ${result.error.message}`)
  return result.status ?? 1
}

export function say(line) {
  process.stderr.write(`${line}\n`)
}

function fail(line) {
  say(`error: ${line}`)
  process.exit(1)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) setup()
