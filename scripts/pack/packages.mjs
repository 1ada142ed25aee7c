// The packages as they are published, made in a folder of their own: the checkout's package.json files are not touched.
//
// A main package depends on its platform packages by exact version, optionally, so that a package manager installs the one
// that fits. Platform packages come first in every list: whoever sees the main package can have its binaries.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { root } from '../setup.mjs'
import { byVersion, readBinary } from './binary.mjs'

/** Folder of the checkout, and where `npm run build:native` leaves binaries. */
const MAIN = [
  { folder: '.', built: 'dist' },
  { folder: 'ghostwire', built: 'ghostwire' },
]
/** What users have no use for. */
const DEVELOPMENT = new Set(['ava', 'devDependencies', 'napi', 'scripts', 'workspaces'])
const LICENCES = ['LICENSE-APACHE', 'LICENSE-MIT', 'THIRD-PARTY-NOTICES.md']

export const MOST_BYTES = { main: 300_000, binary: 8_000_000 }
/** Oldest glibc that the binaries must run with: Debian 12, Ubuntu 22.04 and RHEL 9 have it. The same as in lib/addon.ts. */
export const OLDEST_GLIBC = '2.34'

/**
 * The platform packages with the binary of each, and what is wrong with it.
 * @param {string} [artifacts] a folder with all the binaries, instead of those that were built here
 */
export function platformPackages(artifacts) {
  return MAIN.flatMap(({ folder, built }) =>
    readdirSync(join(root, folder, 'npm')).toSorted().map((platform) => {
      const source = join(root, folder, 'npm', platform)
      const manifest = readJson(join(source, 'package.json'))
      const binary = join(artifacts ?? join(root, built), manifest.main)
      return { name: manifest.name, of: folder, platform, source, manifest, binary, problem: problemOf(binary, platform) }
    }))
}

/** What keeps a binary from being published for this platform. */
function problemOf(binary, platform) {
  if (!existsSync(binary)) return 'the binary is missing'
  try {
    const found = readBinary(binary)
    if (found.platform !== platform) return `the binary is for ${found.platform}`
    if (found.glibc !== undefined && byVersion(found.glibc, OLDEST_GLIBC) > 0) return `the binary needs glibc ${found.glibc}, and ${OLDEST_GLIBC} is promised`
  } catch (error) {
    return error.message
  }
  const { size } = statSync(binary)
  return size > MOST_BYTES.binary ? `the binary has ${size} bytes, and ${MOST_BYTES.binary} are allowed` : undefined
}

/**
 * Makes the packages below `out`, those of platforms first.
 * @param {string} out emptied first
 * @param {{ artifacts?: string, allowMissing?: boolean, repository?: string }} options `allowMissing` makes packages
 * without a binary, for a registry that nobody else installs from; `repository` is the URL that provenance is bound to
 * @returns {{ name: string, folder: string, platform?: string, binary?: string }[]} `binary` is absent where it is missing
 * @throws {Error} naming every platform that is missing or wrong
 */
export function stage(out, { artifacts, allowMissing = false, repository } = {}) {
  const platforms = platformPackages(artifacts)
  const wrong = platforms.filter(({ problem, binary }) => problem !== undefined && !(allowMissing && !existsSync(binary)))
  if (wrong.length > 0) throw new Error(`nothing is published:\n${wrong.map(({ name, problem, binary }) => `  ${name}: ${problem} (${binary})`).join('\n')}`)
  const versions = new Set([...platforms.map(({ manifest }) => manifest), ...MAIN.map(({ folder }) => readJson(join(root, folder, 'package.json')))].map(({ version }) => version))
  if (versions.size > 1) throw new Error(`nothing is published: the packages have several versions, ${[...versions].join(' and ')}; run \`npx napi version\` in both`)

  rmSync(out, { recursive: true, force: true })
  const origin = repository === undefined ? {} : { repository: { type: 'git', url: repository } }
  const staged = platforms.map(({ name, platform, source, manifest, binary }) => {
    const folder = join(out, name)
    cpSync(source, folder, { recursive: true })
    const present = existsSync(binary)
    if (present) cpSync(binary, join(folder, manifest.main))
    for (const licence of LICENCES) cpSync(join(root, licence), join(folder, licence))
    // Without `engines`: on an older Node npm would leave the package out in silence, where the main package's only warns.
    const { engines: _, ...rest } = manifest
    writeJson(join(folder, 'package.json'), { ...rest, ...origin, files: [manifest.main, ...LICENCES] })
    return { name, folder, platform, ...(present && { binary: join(folder, manifest.main) }) }
  })
  for (const { folder: from } of MAIN) {
    const manifest = readJson(join(root, from, 'package.json'))
    const folder = join(out, manifest.name)
    for (const file of packedFiles(join(root, from))) {
      mkdirSync(dirname(join(folder, file)), { recursive: true })
      cpSync(join(root, from, file), join(folder, file))
    }
    for (const licence of LICENCES.slice(0, 2)) cpSync(join(root, licence), join(folder, licence))
    const optionalDependencies = Object.fromEntries(platforms.filter(({ of }) => of === from).map(({ name }) => [name, manifest.version]))
    const published = Object.fromEntries(Object.entries(manifest).filter(([key]) => !DEVELOPMENT.has(key)))
    // npm adds files named LICENSE by itself, but not these.
    const files = [...manifest.files, ...LICENCES.slice(0, 2)]
    const directory = from === '.' || repository === undefined ? {} : { repository: { ...origin.repository, directory: from } }
    writeJson(join(folder, 'package.json'), { ...published, ...origin, ...directory, files, optionalDependencies })
    staged.push({ name: manifest.name, folder })
  }
  return staged
}

/** The files that `files` of a package.json selects, as npm sees it. */
function packedFiles(folder) {
  const { stdout, stderr, status } = spawnSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts', '--workspaces=false'], { cwd: folder, encoding: 'utf8' })
  if (status !== 0) throw new Error(`npm pack failed in ${folder}: ${stderr}`)
  return JSON.parse(stdout)[0].files.map(({ path }) => path)
}

function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'))
}

function writeJson(path, value) {
  writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`)
}
