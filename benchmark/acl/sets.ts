/** Sets of rules, peers and questions for the suite; everything random has a fixed seed. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import type { AclPeer, AclRule } from 'zqlite'

const folder = fileURLToPath(new URL('../../../shared/data/classbench/', import.meta.url))

/** Names of the ClassBench sets of 10,000 rules that are there. */
export function classbench(): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder).filter((name) => name.endsWith('_10k.gz')).map((name) => name.replace('.gz', '')).toSorted()
}

/** Names of the sets of 100,000 rules that are made here. */
export const own = ['own-100k', 'own-sites-100k']

/** The rules of a set by its name. */
export function setOf(name: string): AclRule[] {
  if (name === 'own-100k') return addressRules(100_000)
  if (name === 'own-sites-100k') return siteRules(100_000)
  return readClassbench(`${folder}${name}.gz`)
}

/**
 * A file of ClassBench, compressed or not: `@src/len dst/len lo : hi lo : hi proto/mask …`, the first line first. Every
 * third rule denies. Source ports are left out, as our rules have none.
 */
export function readClassbench(file: string): AclRule[] {
  const bytes = readFileSync(file)
  const lines = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString().split('\n').filter((line) => line.startsWith('@'))
  return lines.map((line, index) => {
    const [source = '', destination = '', , ports = '', protocol = ''] = line.slice(1).split('\t')
    const [low = 0, high = 0] = ports.split(' : ').map(Number)
    const rule: AclRule = { id: index, priority: -index, action: index % 3 === 0 ? 'deny' : 'allow', sources: [selector(source)], destinations: [selector(destination)] }
    if (low !== 0 || high !== 65535) rule.ports = [[low, high]]
    if (!/\/0x00\s*$/i.test(protocol)) rule.protocols = [Number(protocol.slice(0, 4))]
    return rule
  })
}

function selector(prefix: string): string {
  const [address = '', text] = prefix.split('/')
  const length = Number(text)
  if (length === 0) return '*'
  return `${formatV4((parseV4(address) & (-1 << (32 - length))) >>> 0)}/${length}`
}

export function parseV4(text: string): number {
  return text.split('.').reduce((bits, octet) => bits * 256 + Number(octet), 0)
}

export function formatV4(bits: number): string {
  return `${bits >>> 24}.${(bits >>> 16) & 255}.${(bits >>> 8) & 255}.${bits & 255}`
}

/** xorshift32: numbers below 2^32. */
export function random(seed = 0x9e3779b9): (below: number) => number {
  let state = seed
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

const onePort = (port: number): [number, number] => [port, port]

/** Rules between prefixes and single addresses, with ports, as a company of many sites would have. */
export function addressRules(count: number): AclRule[] {
  const next = random()
  const prefix = (): string => {
    const length = [8, 16, 20, 24, 24, 28, 32, 32, 32][next(9)] as number
    return `${formatV4((next(2 ** 32) & (length === 32 ? -1 : -1 << (32 - length))) >>> 0)}/${length}`
  }
  return Array.from({ length: count }, (_, id) => ({
    id,
    priority: next(1000),
    action: next(4) === 0 ? 'deny' : 'allow',
    sources: [next(20) === 0 ? '*' : prefix()],
    destinations: [next(20) === 0 ? '*' : prefix()],
    protocols: [[6, 17][next(2)] as number],
    ports: [next(4) === 0 ? [1024, 65535] : onePort(next(1024))],
  }))
}

/** Rules between the networks of a few hundred sites: prefixes come again and again, and lie within each other. */
export function siteRules(count: number): AclRule[] {
  const next = random(5)
  const sites = Array.from({ length: 400 }, () => ((0x0a000000 | next(2 ** 24)) & 0xfffff000) >>> 0)
  const prefix = (): string => {
    const length = [20, 22, 24, 24, 28, 32, 32, 32][next(8)] as number
    const within = length === 20 ? 0 : next(2 ** (length - 20)) * 2 ** (32 - length)
    return `${formatV4((sites[next(sites.length)] as number) + within)}/${length}`
  }
  return Array.from({ length: count }, (_, id) => {
    const port = next(8) === 0 ? 1024 + next(60_000) : ([22, 53, 80, 443, 3306, 5432, 6379, 8080][next(8)] as number)
    return {
      id,
      priority: next(1000),
      action: next(4) === 0 ? 'deny' : 'allow',
      sources: [next(100) === 0 ? '*' : prefix()],
      destinations: [next(100) === 0 ? '*' : prefix()],
      protocols: [next(5) === 0 ? 17 : 6],
      ports: [next(10) === 0 ? [port, Math.min(65535, port + next(5000))] : onePort(port)],
    }
  })
}

/** How many users, groups and tags a mesh has. */
export const world = { users: 5000, groups: 500, tags: 200 }

/** Rules between users, groups and tags, as a mesh has. */
export function labelRules(count: number, { users, groups, tags }: { users: number; groups: number; tags: number }): AclRule[] {
  const next = random()
  return Array.from({ length: count }, (_, id) => ({
    id,
    priority: next(100),
    action: next(10) === 0 ? 'deny' : 'allow',
    sources: [next(3) === 0 ? `group:${next(groups)}` : `user:${next(users)}`],
    destinations: [next(50) === 0 ? `group:${next(groups)}` : `tag:${next(tags)}`],
    protocols: [6],
    ports: [[[22, 80, 443, 5432, 8080][next(5)] as number, 9000]],
  }))
}

/** Half are machines of users in groups, half servers with a tag. */
export function meshPeers(count: number, { users, groups, tags }: { users: number; groups: number; tags: number }): AclPeer[] {
  const next = random(7)
  return Array.from({ length: count }, (_, id) => {
    const user = id % users
    const labels = id % 2 === 0 ? [`user:${user}`, `group:${user % groups}`, `group:${(user * 7 + 3) % groups}`] : [`tag:${next(tags)}`]
    return { id, addresses: [formatV4(0x64400000 + id)], labels: [...new Set(labels)], owner: `u${user}` }
  })
}

/** Questions about addresses of IPv4. */
export interface Trace {
  sources: Uint32Array
  destinations: Uint32Array
  protocols: Uint8Array
  ports: Uint16Array
}

/** Questions of which no two are equal: half from the corners of rules, half uniformly random. */
export function trace(rules: readonly AclRule[], count: number): Trace {
  const next = random(99)
  const [sources, destinations] = [new Uint32Array(count), new Uint32Array(count)]
  const [protocols, ports] = [new Uint8Array(count), new Uint16Array(count)]
  const corner = (text: string | undefined): number => {
    if (text === undefined || text === '*') return next(2 ** 32)
    const [address = '', length = '32'] = text.split('/')
    return (parseV4(address) + (next(2) === 0 ? 0 : 2 ** (32 - Number(length)) - 1)) >>> 0
  }
  const seen = new Set<number>()
  // Equal for equal questions, and rarely for others, which then are drawn again.
  const key = (i: number): number => {
    const [destination, service] = [destinations[i] as number, ((protocols[i] as number) << 16) | (ports[i] as number)]
    return (((sources[i] as number) ^ Math.imul(destination, 0x9e3779b1)) >>> 0) * 2 ** 21 + ((service ^ destination) & 0x1fffff)
  }
  for (let i = 0; i < count; i++) {
    const rule = rules[next(rules.length)] as AclRule
    const fromRule = i % 2 === 0
    sources[i] = fromRule ? corner(rule.sources[0]) : next(2 ** 32)
    destinations[i] = fromRule ? corner(rule.destinations[0]) : next(2 ** 32)
    protocols[i] = fromRule ? (rule.protocols?.[0] ?? 6) : ([1, 6, 17][next(3)] as number)
    ports[i] = fromRule ? (rule.ports?.[0]?.[next(2)] ?? next(65536)) : next(65536)
    // Rules without a `*` or many ports have few corners: when they are used up, the source is random.
    while (seen.has(key(i))) sources[i] = next(2 ** 32)
    seen.add(key(i))
  }
  return { sources, destinations, protocols, ports }
}

/** Questions about peers below `peers` of which no two are equal, all of TCP. */
export function peerTrace(peers: number, count: number): { source: number; destination: number; port: number }[] {
  const next = random(17)
  const seen = new Set<number>()
  return Array.from({ length: count }, () => {
    for (;;) {
      const question = { source: next(peers), destination: next(peers), port: [22, 80, 443, 5432, 8080][next(5)] as number }
      const key = (question.source * peers + question.destination) * 65536 + question.port
      if (seen.has(key)) continue
      seen.add(key)
      return question
    }
  })
}
