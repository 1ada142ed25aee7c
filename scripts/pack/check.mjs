// `npm run pack:check`: packs both packages, publishes them to a registry of our own on loopback, and installs and uses them
// as users do: with npm, pnpm and yarn, from ES modules, CommonJS and TypeScript, without Rust on the PATH.
//
// Never touches a public registry with our packages; their dependencies come from the one that npm is set up with. Platforms
// that were not built here are published there without a binary, so that package managers see all five, and nothing of them runs.
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { root, run, say, setup } from '../setup.mjs'
import { readBinary } from './binary.mjs'
import { MOST_BYTES, OLDEST_GLIBC, stage } from './packages.mjs'
import { JAVASCRIPT, JOIN, PRINTED, TYPESCRIPT } from './programs.mjs'
import { startRegistry } from './registry.mjs'
import { installTools, PNPM, tool, VERDACCIO, YARN } from './tools.mjs'
import { npm, User } from './user.mjs'

const START_MS = 30_000
const MESH_MS = 120_000

setup()
installTools()
const folder = mkdtempSync(join(tmpdir(), 'zqlite-pack-'))
const failed = []
let passed = 0
let skipped = 0
let registry
/** Why a check cannot work on this machine. */
class Skip extends Error {}
try {
  await main()
} finally {
  registry?.stop()
  if (failed.length === 0) rmSync(folder, { recursive: true, force: true })
  else say(`left for a look: ${folder}`)
}
for (const name of failed) say(`failed: ${name}`)
say(`${passed} passed, ${failed.length} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
process.exitCode = failed.length > 0 || passed === 0 ? 1 : 0

async function main() {
  say('# packages')
  const packages = stage(join(folder, 'packages'), { allowMissing: true })
  for (const { name, platform, binary } of packages) if (platform && !binary) say(`  not built here, published on loopback without its binary: ${name}`)
  const binaries = packages.filter(({ binary }) => binary)
  await check('there is a binary of both for this machine', () => {
    const here = binaries.filter(({ platform }) => platform.startsWith(`${process.platform}-${process.arch}`))
    if (here.length !== 2) throw new Error(`found ${here.map(({ name }) => name).join(', ') || 'none'}`)
  })
  for (const { name, binary } of binaries) {
    const { glibc } = readBinary(binary)
    await check(`${name}: ${megabytes(statSync(binary).size)} of at most ${megabytes(MOST_BYTES.binary)}, glibc ${glibc} of at most ${OLDEST_GLIBC}`, () => {
      // `stage` has refused what is larger or newer.
    })
  }
  const user = () => new User(join(folder, `user-${++users}`), registry)
  let users = 0
  registry = await startRegistry(join(folder, 'registry'), VERDACCIO)
  for (const { name, folder: from } of packages) await check(`publish ${name}`, () => publish(from, name))
  await check('the real publishing refuses while a platform is missing', refusal)
  for (const [name, profile] of [['zqlite', 'node16'], ['ghostwire', 'esm-only']]) {
    await check(`are the types of ${name} wrong`, () => typesOf(join(folder, 'packages', name), profile))
    await check(`publint ${name}`, () => expectSuccess('npx', ['publint', join(folder, 'packages', name), '--strict', '--pack', 'npm']))
  }

  say('# npm')
  const first = user()
  const project = first.project('project', JAVASCRIPT)
  await check('from npm install to the first query', async () => {
    const started = performance.now()
    await first.npm(project, 'install', 'zqlite')
    const installed = performance.now()
    expectPrinted(await first.node(project, 'first.mjs'))
    say(`  ${seconds(performance.now() - started)}: ${seconds(installed - started)} to install with empty caches, ${seconds(performance.now() - installed)} to run`)
  })
  await check('only the package of this platform is installed, and no install script ran', () => {
    const ours = readdirSync(join(project, 'node_modules')).filter((name) => name.startsWith('zqlite'))
    if (ours.length !== 2 || !ours[1].startsWith(`zqlite-${process.platform}-${process.arch}`)) throw new Error(ours.join(', '))
    const { scripts } = JSON.parse(readFileSync(join(project, 'node_modules/zqlite/package.json'), 'utf8'))
    if (scripts !== undefined) throw new Error('the package has scripts')
  })
  for (const file of Object.keys(JAVASCRIPT)) await check(`npm, ${file}`, async () => expectPrinted(await first.node(project, file)))
  await check('install TypeScript', () => first.npm(project, 'install', 'typescript@5', '@types/node@20'))
  for (const program of TYPESCRIPT) await check(`TypeScript, ${program.name}`, () => typescript(first, project, program))

  say('# other package managers')
  await withManager('pnpm', user(), [PNPM, 'add', 'zqlite', `--store-dir=${join(folder, 'pnpm-store')}`])
  for (const linker of ['node-modules', 'pnp']) {
    const files = { '.yarnrc.yml': `nodeLinker: ${linker}\npnpEnableEsmLoader: true\n`, 'yarn.lock': '' }
    await withManager(`yarn with ${linker}`, user(), [YARN, 'add', 'zqlite'], files, linker === 'pnp' ? [YARN, 'node'] : [])
  }

  say('# other platforms')
  for (const { name, platform } of packages.filter((one) => one.platform && one.name.startsWith('zqlite'))) {
    await check(`npm chooses ${name} for its platform`, () => chooses(user(), name, platform))
  }
  await check('a missing binary is an error that says what to do', async () => {
    const someone = user()
    const without = someone.project('project', JAVASCRIPT)
    await someone.npm(without, 'install', 'zqlite', '--omit=optional')
    const { code, stderr } = await someone.try(without, 'first.mjs')
    for (const part of ['ERR_ADDON', `on ${process.platform} ${process.arch} (`, 'Tried:', 'What to do: install the package zqlite-', '--omit=optional']) {
      if (code === 0 || !stderr.includes(part)) throw new Error(`no word of ${part} (code ${code}): ${stderr}`)
    }
  })

  say('# ghostwire')
  await check('installs, serves, registers a peer and tells it of the network', () => ghostwire(user()))
  await check('two machines join with `ghostwire up` and reach each other', () => mesh(user()))
}

async function check(name, body) {
  try {
    await body()
    passed++
    say(`ok: ${name}`)
  } catch (error) {
    if (error instanceof Skip) {
      skipped++
      return say(`\n*** SKIPPED: ${name}: ${error.message}. Nothing of it is checked here. ***\n`)
    }
    failed.push(name)
    say(`FAILED: ${name}\n${error.stack}`)
  }
}

async function publish(from, name) {
  if (!registry.url.startsWith('http://127.0.0.1:')) throw new Error(`${registry.url} is not on loopback`)
  const size = Number(JSON.parse(await quiet(npm, ['pack', '--dry-run', '--json'], from))[0].unpackedSize)
  if (name === 'zqlite' && size > MOST_BYTES.main) throw new Error(`it has ${size} bytes unpacked, and ${MOST_BYTES.main} are allowed`)
  if (name === 'zqlite') say(`  ${Math.round(size / 1000)} kB of at most ${MOST_BYTES.main / 1000} kB unpacked`)
  await quiet(npm, ['publish', `--registry=${registry.url}`, `--userconfig=${registry.npmrc}`], from)
}

/** What the release workflow runs, on the binaries that happen to be here: it must refuse, naming what is missing, and send nothing. */
async function refusal() {
  const publisher = new User(join(folder, 'publisher'), registry)
  publisher.env.PATH = process.env.PATH
  const { code, stderr } = await publisher.try(root, join(root, 'scripts/publish.mjs'), '--dry-run')
  const missing = ['zqlite', 'ghostwire'].map((name) => `${name}-darwin-arm64: the binary is missing`)
  if (code === 0 || missing.some((line) => !stderr.includes(line)) || stderr.includes('would publish')) throw new Error(`code ${code}: ${stderr}`)
}

async function typesOf(from, profile) {
  await quiet(tool('@arethetypeswrong/cli/dist/index.js'), ['--pack', from, '--profile', profile, '--no-emoji', '--no-color'], folder)
}

async function typescript(user, project, { source, text, options, run: program }) {
  writeFileSync(join(project, source), text)
  const compilerOptions = { ...options, target: 'es2022', strict: true, types: ['node'], outDir: '.' }
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [source] }))
  await user.node(project, 'node_modules/typescript/bin/tsc', '-p', '.')
  // What is for a bundler is no ES module by its name; Node runs it when told so.
  if (program.endsWith('.js')) writeFileSync(join(project, 'package.json'), JSON.stringify({ ...JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')), type: 'module' }))
  expectPrinted(await user.node(project, program))
}

async function withManager(name, user, install, files = {}, runner = []) {
  const project = user.project('project', { ...JAVASCRIPT, ...files })
  await check(`${name}, install`, () => user.node(project, ...install))
  for (const file of Object.keys(JAVASCRIPT)) await check(`${name}, ${file}`, async () => expectPrinted(await user.node(project, ...runner, file)))
}

async function chooses(user, name, platform) {
  const project = user.project('project')
  const [os, cpu, libc] = platform.split('-')
  await user.npm(project, 'install', 'zqlite', `--os=${os}`, `--cpu=${cpu}`, ...(libc ? [`--libc=${libc === 'gnu' ? 'glibc' : libc}`] : []))
  const ours = readdirSync(join(project, 'node_modules')).filter((one) => one.startsWith('zqlite-'))
  if (ours.join() !== name) throw new Error(`installed: ${ours.join(', ') || 'none'}`)
}

async function ghostwire(user) {
  const project = user.project('project', { 'join.mjs': JOIN })
  await user.npm(project, 'install', 'ghostwire')
  const serving = user.start(project, 'node_modules/.bin/ghostwire', 'serve', '--json', '--db-path=mesh.db', '--port=0', '--metrics-port=0', '--sync-port=0')
  const output = { stderr: '' }
  serving.stderr.setEncoding('utf8').on('data', (text) => (output.stderr += text))
  const ended = once(serving, 'close')
  try {
    const line = once(createInterface({ input: serving.stdout }), 'line', { signal: AbortSignal.timeout(START_MS) })
    const [started] = await Promise.race([line, ended.then(([code]) => Promise.reject(new Error(`serve ended with code ${code}: ${output.stderr}`)))])
    const { api, preauthKey } = JSON.parse(started)
    const joined = await user.node(project, 'join.mjs', api, preauthKey)
    if (joined !== '{"registered":"first","told":"first"}') throw new Error(joined)
  } finally {
    serving.kill('SIGTERM')
  }
  const [code] = await ended
  if (code !== 0) throw new Error(`serve ended with code ${code} when told to stop: ${output.stderr}`)
}

/** The agent with real packets, in namespaces of its own; needs root and what the agent itself needs. */
async function mesh(user) {
  if (process.getuid?.() !== 0) throw new Skip('only root makes network namespaces')
  const project = user.project('mesh')
  await user.npm(project, 'install', 'ghostwire')
  // Unlike elsewhere with the system's programs: the agent calls ip, nft and wg.
  const env = { ...user.env, PATH: `${user.env.PATH}:/usr/sbin:/usr/bin:/sbin:/bin` }
  const namespaces = ['--net', '--mount', '--uts', '--pid', '--fork', '--kill-child', '--mount-proc']
  const { status, error, stdout, stderr } = spawnSync('unshare', [...namespaces, 'sh', join(root, 'scripts/pack/mesh.sh')], { cwd: project, env, encoding: 'utf8', timeout: MESH_MS })
  if (error?.code === 'ENOENT') throw new Skip('there is no unshare')
  if (status === 77) throw new Skip(stderr.trim())
  if (error !== undefined || status !== 0) throw new Error(`ended with ${error?.message ?? `code ${status}`}\n${stdout}${stderr}`)
}

/** Runs a Node program of ours; its output is shown when it fails. */
async function quiet(program, args, cwd) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], { cwd, encoding: 'utf8', timeout: 120_000 })
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with code ${status}\n${stdout}${stderr}`)
  return stdout
}

function expectSuccess(command, args) {
  if (run(command, args) !== 0) throw new Error('see above')
}

function expectPrinted(text) {
  if (text !== PRINTED) throw new Error(`printed ${text}\ninstead of ${PRINTED}`)
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`
}

function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`
}
