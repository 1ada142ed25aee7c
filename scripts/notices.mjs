// `npm run notices`: writes THIRD-PARTY-NOTICES.md, the licences of all that is compiled into the addons. With `--check` it
// only says whether the file is what it would write. Nothing of npm is compiled in: those packages come with their own.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { root, say } from './setup.mjs'

const FILE = join(root, 'THIRD-PARTY-NOTICES.md')
const ADDONS = new Set(['zqlite-node', 'ghostwire-node'])
const TARGETS = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).napi.targets
/** A crate offers one of several licences: the first of these that it has a text of is taken. */
const PREFERRED = [/MIT/i, /APACHE/i, /^(LICEN[CS]E|COPYING|UNLICENSE)/i]

const text = notices(crates())
if (process.argv.includes('--check')) {
  if (!existsSync(FILE) || readFileSync(FILE, 'utf8') !== text) {
    say('THIRD-PARTY-NOTICES.md is not current; run `npm run notices`')
    process.exitCode = 1
  }
} else writeFileSync(FILE, text)

/** Every crate from elsewhere that is linked into an addon on some platform: no build scripts, no tests. */
function crates() {
  const found = new Map()
  for (const target of TARGETS) {
    const { packages, resolve } = metadata(target)
    const byId = new Map(packages.map((one) => [one.id, one]))
    const nodes = new Map(resolve.nodes.map((node) => [node.id, node]))
    const waiting = packages.filter(({ name, source }) => source === null && ADDONS.has(name)).map(({ id }) => id)
    for (const seen = new Set(waiting); waiting.length > 0; ) {
      const id = waiting.pop()
      const { name, version, source } = byId.get(id)
      if (source !== null) found.set(`${name} ${version}`, byId.get(id))
      for (const { pkg, dep_kinds: kinds } of nodes.get(id).deps) {
        const macro = byId.get(pkg).targets.some(({ kind }) => kind.includes('proc-macro'))
        if (macro || seen.has(pkg) || kinds.every(({ kind }) => kind !== null)) continue
        seen.add(pkg)
        waiting.push(pkg)
      }
    }
  }
  return [...found].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, crate]) => crate)
}

function metadata(target) {
  const args = ['metadata', '--format-version=1', '--locked', `--filter-platform=${target}`]
  const { stdout, stderr, status } = spawnSync('cargo', args, { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 28 })
  if (status !== 0) throw new Error(`cargo ${args.join(' ')} failed: ${stderr}`)
  return JSON.parse(stdout)
}

function notices(list) {
  const lines = [
    '# Third-party notices',
    '',
    'What is compiled into the addons of zqlite and Ghostwire besides their own code, with its licences. Made by `npm run notices`.',
    'The standard library of Rust is under MIT OR Apache-2.0 as well. SQLite itself, which `libsqlite3-sys` contains, is in the public domain.',
    '',
    '| crate | version | licence | authors |',
    '|---|---|---|---|',
    ...list.map(({ name, version, license, authors }) => `| ${name} | ${version} | ${license} | ${authors.map((author) => author.replace(/\s*<.*>/, '').replaceAll('|', '/')).join(', ')} |`),
    '',
  ]
  const users = new Map()
  const silent = []
  for (const crate of list) {
    const licence = licenceText(crate)
    if (licence === undefined) silent.push(crate)
    else users.set(licence, [...(users.get(licence) ?? []), `${crate.name} ${crate.version}`])
  }
  if (silent.length > 0) lines.push(`Published without the text of their licence: ${silent.map(({ name, version, license }) => `${name} ${version} (${license})`).join(', ')}.`, '')
  for (const [licence, names] of users) lines.push(`## ${names.join(', ')}`, '', '```', licence, '```', '')
  return `${lines.join('\n').trimEnd()}\n`
}

function licenceText({ manifest_path: manifest, license_file: named }) {
  const folder = dirname(manifest)
  // Some keep them in a folder of that name, by the names of SPDX.
  const files = readdirSync(folder, { recursive: true })
    .filter((file) => /^(LICEN[CS]E|COPYING|UNLICENSE)/i.test(file) && statSync(join(folder, file)).isFile())
    .toSorted()
  const file = named ?? PREFERRED.map((wanted) => files.find((one) => wanted.test(one))).find((one) => one !== undefined)
  return file === undefined ? undefined : readFileSync(join(folder, file), 'utf8').replaceAll('\r', '').split('\n').map((line) => line.trimEnd()).join('\n').trim().replaceAll('```', "'''")
}
