/** A network to write policies for: users in groups, tagged servers, routers; as large as asked for. */
import { AclEngine } from 'zqlite'
import { createDomain, type Domain } from '../../ghostwire/src/domain.js'
import { MemoryJournal } from '../../ghostwire/src/journal/memory.js'
import { silentLog } from '../../ghostwire/src/log.js'
import type { PeerRecord } from '../../ghostwire/src/peers/peer.js'
import type { NetmapBatch } from '../../ghostwire/src/topology/topology.js'

const GROUPS = 200
const TAGS = 200

/** A policy of about so many lines: an entry of `acls` or a group each. */
export function policyText(lines: number, users: number, seed: number): string {
  const groups: string[] = []
  for (let group = 0; group < GROUPS; group += 1) {
    const members = Array.from({ length: Math.ceil(users / GROUPS) * 2 }, (_, index) => `"u${(group * 37 + index * 101) % users}@example.com"`)
    groups.push(`    "group:g${group}": [${[...new Set(members)].join(', ')}],`)
  }
  const owners = Array.from({ length: TAGS }, (_, tag) => `    "tag:t${tag}": ["group:g${tag % GROUPS}"],`)
  const acls: string[] = []
  for (let index = 0; acls.length < lines - GROUPS - TAGS - 20; index += 1) {
    const mixed = index * 7 + seed
    const src = index % 10 === 0 ? `"u${mixed % users}@example.com"` : `"group:g${mixed % GROUPS}"`
    const dst = index % 50 === 0 ? `"10.${mixed % 200}.0.0/16:443"` : `"tag:t${(mixed * 13) % TAGS}:${20 + (index % 400)},8000-80${10 + (index % 80)}"`
    acls.push(`    {"action": "accept", "src": [${src}], "dst": [${dst}]}, // rule ${index}`)
  }
  const tests = Array.from({ length: 20 }, (_, index) => `    {"src": "u${index}@example.com", "proto": "tcp", "deny": ["tag:t${index * 3}:${7000 + index}"]},`)
  return `{\n  "groups": {\n${groups.join('\n')}\n  },\n  "tagOwners": {\n${owners.join('\n')}\n  },\n  "acls": [\n${acls.join('\n')}\n  ],\n  "tests": [\n${tests.join('\n')}\n  ],\n}\n`
}

export interface Network {
  readonly domain: Domain
  /** What peers were told last. */
  readonly last: () => NetmapBatch | undefined
}

export async function network(peers: number, users: number): Promise<Network> {
  const journal = new MemoryJournal()
  let batch: NetmapBatch | undefined
  const domain = createDomain({
    journal,
    network: { ipv4: '100.64.0.0/10', ipv6: 'fd7a:115c:a1e0::/48', domain: 'mesh.internal' } as never,
    addresses: { pools: [], quarantine: 0 } as never,
    log: silentLog,
    engine: new AclEngine(),
    scratchEngine: () => new AclEngine(),
    publish: (next) => {
      batch = next
    },
  })
  for (let first = 0; first < peers; first += 100) {
    const puts = Array.from({ length: Math.min(100, peers - first) }, (_, index) => record(first + index, users))
    await journal.commit({ puts })
  }
  await domain.replica.start((error) => {
    throw error
  })
  return { domain, last: () => batch }
}

function record(index: number, users: number): { key: string; value: PeerRecord } {
  const router = index % 500 === 499
  const fifth = Math.floor(index / 5)
  const tagged = index % 5 === 4
  const route = `10.${Math.floor(index / 500) % 200}.0.0/16`
  const value: PeerRecord = {
    name: `peer-${index}`,
    hostname: `peer-${index}`,
    user: tagged ? null : `u${(index - fifth) % users}@example.com`,
    tags: tagged ? [`tag:t${fifth % TAGS}`] : [],
    wireguardKey: Buffer.from(String(index).padStart(32, '0')).toString('base64'),
    ipv4: `100.${64 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`,
    ipv6: `fd7a:115c:a1e0::${(index >> 16).toString(16)}:${(index & 65535).toString(16)}`,
    os: 'linux',
    version: '1.0',
    advertisedRoutes: router ? [route] : [],
    approvedRoutes: router ? [route] : [],
    metadata: {},
    preauthKey: 'k_1',
    tokenHash: 'x',
    createdAt: 0,
  }
  return { key: `peers/p_${String(index).padStart(16, '0')}`, value }
}
