/**
 * Longest matches as others see them: Linux's routing table in a network namespace of its own, and PostgreSQL's `inet`.
 * Run by hand, as root: `node --import=tsx __test__/oracles/cidr.ts [seed]`. The exit code is 0 when all that was there agreed,
 * 1 where an answer differs, 2 where an oracle is absent: what was not asked has not agreed.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CidrTable } from 'zqlite'

type Family = 4 | 6
type Oracle = (family: Family, prefixes: readonly string[], addresses: readonly string[]) => (string | undefined)[]

/** The oracle is not installed, or may not be used here. */
class Absent extends Error {}

const seed = Number(process.argv[2] ?? 1)
const PREFIXES = 5000
const ADDRESSES = 5000

/** Numbers below `end` that look random, the same for a seed. */
function numbers(start: number): (end: number) => number {
  let state = start
  return (end) => {
    state = (state + 0x9e3779b9) | 0
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return Math.floor((((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32) * end)
  }
}

/**
 * Few first bytes, so that prefixes lie within each other. IPv6 stays within 2000::/3, whose addresses Linux routes. No prefix holds
 * an address `beside` them, which differs in the last bit of the first two bytes or groups.
 */
function address(family: Family, random: (end: number) => number, beside: 0 | 1 = 0): string {
  if (family === 4) return [20 + random(3), random(8) * 32 + beside, random(256), random(256)].join('.')
  const groups = [0x2001, random(4) * 2 + beside, random(8) << 12, random(65_536), random(2), random(65_536), 0, random(65_536)]
  return groups.map((group) => group.toString(16)).join(':')
}

function cases(family: Family): { prefixes: string[]; addresses: string[] } {
  const random = numbers(seed * 10 + family)
  const masked = new CidrTable({ hostBits: 'mask' })
  const [shortest, longest] = family === 4 ? [16, 32] : [36, 128]
  for (let i = 0; i < PREFIXES; i++) masked.insert(`${address(family, random)}/${shortest + random(longest - shortest + 1)}`, i)
  const prefixes = masked.entries().map(({ prefix }) => prefix)
  // Half of them begin a prefix, so that long ones are hit too; a quarter lies in no prefix.
  const first = (): string => prefixes[random(prefixes.length)]?.split('/')[0] ?? ''
  return { prefixes, addresses: Array.from({ length: ADDRESSES }, (_, i) => (i % 2 === 1 ? first() : address(family, random, i % 4 === 0 ? 1 : 0))) }
}

function run(command: string, args: readonly string[], input = '', env: NodeJS.ProcessEnv = process.env): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { input, env, encoding: 'utf8', maxBuffer: 1 << 28, timeout: 120_000 })
  if (error !== undefined) throw new Absent(`${command}: ${error.message}`)
  if (status !== 0) throw new Absent(`${command} ${args.slice(0, 4).join(' ')}: ${stderr.slice(0, 300)}`)
  return stdout
}

/** `ip route get fibmatch`: the route that the kernel chose, not merely where it leads. */
const linux: Oracle = (family, prefixes, addresses) => {
  const namespace = `zqlite-oracle-${process.pid}`
  run('ip', ['netns', 'add', namespace])
  try {
    const inside = (args: readonly string[], input = ''): string => run('ip', ['-n', namespace, ...args], input)
    inside(['link', 'set', 'lo', 'up'])
    inside(['-batch', '-'], prefixes.map((prefix) => `route add ${prefix} dev lo\n`).join(''))
    return addresses.map((asked) => {
      const { status, stdout, stderr } = spawnSync('ip', ['-n', namespace, `-${family}`, 'route', 'get', 'fibmatch', asked], { encoding: 'utf8' })
      if (status !== 0) {
        if (/unreachable/i.test(stderr)) return undefined
        throw new Error(`ip route get fibmatch ${asked}: ${stderr}`)
      }
      const [found = ''] = stdout.split(/\s/)
      return found === 'default' ? undefined : found.includes('/') ? found : `${found}/${family === 4 ? 32 : 128}`
    })
  } finally {
    spawnSync('ip', ['netns', 'delete', namespace])
  }
}

/** `inet`'s operator `>>=`, longest first; a server of its own on a socket in an empty folder. */
const postgres: Oracle = (_, prefixes, addresses) => {
  const root = '/usr/lib/postgresql'
  let version: string | undefined
  try {
    version = readdirSync(root).toSorted((a, b) => Number(b) - Number(a))[0]
  } catch {}
  if (version === undefined) throw new Absent(`${root} is empty: apt-get install postgresql`)
  const folder = mkdtempSync(join(tmpdir(), 'zqlite-oracle-'))
  // The server refuses to run as root.
  const asUser = process.getuid?.() === 0 ? ['runuser', '-u', 'postgres', '--'] : []
  const server = (program: string, ...args: string[]): string => {
    const [command = '', ...rest] = [...asUser, join(root, version, 'bin', program), ...args]
    return run(command, rest)
  }
  const data = join(folder, 'data')
  try {
    if (asUser.length > 0) run('chown', ['postgres', folder])
    server('initdb', '-D', data, '-A', 'trust', '-U', 'oracle')
    server('pg_ctl', '-D', data, '-w', '-s', '-l', join(folder, 'log'), '-o', `-k ${folder} -c listen_addresses=''`, 'start')
    const values = (texts: readonly string[]): string => texts.map((text, i) => `(${i},'${text}')`).join(',')
    const sql = `CREATE TABLE p (i int, p inet); INSERT INTO p VALUES ${values(prefixes)};
      CREATE TABLE a (i int, a inet); INSERT INTO a VALUES ${values(addresses)};
      CREATE INDEX ON p USING gist (p inet_ops);
      SELECT a.i, (SELECT p.i FROM p WHERE p.p >>= a.a ORDER BY masklen(p.p) DESC LIMIT 1) FROM a ORDER BY a.i;`
    const rows = run(join(root, version, 'bin', 'psql'), ['-h', folder, '-U', 'oracle', '-d', 'postgres', '-qAt', '-F', ' '], sql)
    const found: (string | undefined)[] = []
    for (const row of rows.trim().split('\n')) {
      const [at, prefix] = row.split(' ')
      found[Number(at)] = prefix === '' || prefix === undefined ? undefined : prefixes[Number(prefix)]
    }
    return found
  } finally {
    spawnSync([...asUser, join(root, version, 'bin', 'pg_ctl')][0] ?? '', [...asUser, join(root, version, 'bin', 'pg_ctl'), '-D', data, '-m', 'immediate', 'stop'].slice(1))
    rmSync(folder, { recursive: true, force: true })
  }
}

let code = 0
for (const [name, ask] of Object.entries({ 'Linux routing table': linux, 'PostgreSQL inet': postgres })) {
  for (const family of [4, 6] as const) {
    const { prefixes, addresses } = cases(family)
    const table = new CidrTable()
    table.insertAll(prefixes, Uint32Array.from(prefixes, (_, i) => i))
    const ours = addresses.map((asked) => table.lookup(asked)?.prefix)
    try {
      const theirs = ask(family, prefixes, addresses)
      const differing = addresses.flatMap((asked, i) => (ours[i] === theirs[i] ? [] : [`${asked}: ${ours[i]} here, ${theirs[i]} there`]))
      const hits = ours.filter((found) => found !== undefined).length
      if (hits === 0 || hits === ours.length) throw new Error('the addresses must be some of them covered, and some not')
      if (theirs.length !== addresses.length) throw new Error(`${theirs.length} answers to ${addresses.length} questions`)
      process.stdout.write(`${name}, IPv${family}: ${prefixes.length} prefixes, ${addresses.length} addresses (${hits} covered), ${differing.length} differ\n`)
      for (const line of differing.slice(0, 10)) process.stdout.write(`  ${line}\n`)
      if (differing.length > 0) code = 1
    } catch (error) {
      if (!(error instanceof Absent)) throw error
      process.stderr.write(`\n*** NOT ASKED: ${name}, IPv${family}: ${error.message}\n\n`)
      if (code === 0) code = 2
    }
  }
}
process.exitCode = code
