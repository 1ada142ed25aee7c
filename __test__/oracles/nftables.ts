/**
 * Holds `AclEngine` to nftables: random rules and peers are written as a ruleset of a network namespace, real datagrams and
 * connections are sent to it from another, and what arrives must be what `decide` and `decideAddresses` allow.
 *
 *     sudo npx tsx __test__/oracles/nftables.ts [--rounds N] [--seed N]
 *
 * It makes two namespaces of its own and removes them. It ends with 0 when all answers are equal, with 1 when one is not,
 * and with 77 when it may not make namespaces or there is no `nft`.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { parseArgs } from 'node:util'
import { AclEngine, type AclPeer, type AclRule } from 'zqlite'
import { onPath, say, skip } from './oracle'

interface Question {
  id: number
  source: string
  destination: string
  /** 6 or 17. */
  protocol: number
  port: number
}

/** What the parent tells the process in the sending namespace, and what it answers: which questions passed. */
interface Job {
  questions: Question[]
}

const ports = Array.from({ length: 12 }, (_, i) => 20_000 + i)
/** Always let through: a datagram on it tells that those before it have been judged. */
const CONTROL = 19_999
const LABELS = ['tag:a', 'tag:b', 'group:c', 'user:d']
const places = Array.from({ length: 10 }, (_, i) => i * 5 + 1)
const sources = places.flatMap((i) => [`10.1.0.${i}`, `fd01::${i.toString(16)}`])
const destinations = places.flatMap((i) => [`10.2.0.${i}`, `fd02::${i.toString(16)}`])
const NOW = 1000

const names = { from: `oracle-from-${process.pid}`, to: `oracle-to-${process.pid}` }
const role = process.env['ORACLE_ROLE']
if (role === 'receive') receive()
else if (role === 'send') send()
else void main()

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '20' }, seed: { type: 'string', default: '1' } } })
  // npm puts programs of packages first, and one of them is called nft, too.
  process.env['PATH'] = (process.env['PATH'] ?? '').split(delimiter).filter((entry) => !entry.includes('node_modules')).join(delimiter)
  for (const program of ['ip', 'nft']) if (!onPath(program)) skip(`there is no ${program} on PATH`)
  const made = spawnSync('ip', ['netns', 'add', names.from], { encoding: 'utf8' })
  if (made.status !== 0) skip(`a network namespace cannot be made: ${made.stderr.trim()}`)
  const folder = mkdtempSync(join(tmpdir(), 'nftables-'))
  const children: ChildProcess[] = []
  let wrong = 0
  try {
    link()
    const receiver = start('receive', names.to)
    const sender = start('send', names.from)
    children.push(receiver, sender)
    await Promise.all([once(receiver, 'message'), once(sender, 'message')])
    for (let round = 0; round < Number(values.rounds); round++) wrong += await compare(Number(values.seed) + round, sender, folder)
  } finally {
    rmSync(folder, { recursive: true })
    for (const child of children) child.kill()
    for (const name of [names.from, names.to]) spawnSync('ip', ['netns', 'delete', name])
  }
  process.exitCode = wrong > 0 ? 1 : 0
}

/** One ruleset, asked about everything. */
async function compare(seed: number, sender: ChildProcess, folder: string): Promise<number> {
  const below = random(seed)
  const peers = somePeers(below)
  const rules = Array.from({ length: 40 }, (_, id) => someRule(id, below))
  const engine = new AclEngine()
  engine.setRules(rules)
  engine.putPeers(peers)
  load(rules, peers, folder)
  const pairs = sources.flatMap((source) => destinations.filter((d) => d.includes(':') === source.includes(':')).map((d) => [source, d] as const))
  const questions = pairs.flatMap(([source, destination]) => [6, 17].map((protocol) => ({ source, destination, protocol, port: ports[below(ports.length)] as number })))
  const asked = questions.map((question, id) => ({ id, ...question }))
  const passed = new Set<number>()
  const allowed = asked.map((question) => engine.decideAddresses({ ...question, at: NOW }).allowed)
  // A datagram may be lost, but never invented: what did not arrive is sent again before it counts.
  for (let attempt = 0; attempt < 3; attempt++) {
    const left = asked.filter(({ id }) => !passed.has(id) && (attempt === 0 || allowed[id]))
    if (left.length === 0) break
    sender.send({ questions: left } satisfies Job)
    const [arrived] = (await once(sender, 'message')) as [number[]]
    for (const id of arrived) passed.add(id)
  }
  let wrong = 0
  for (const question of asked) {
    const theirs = passed.has(question.id)
    const [source, destination] = [question.source, question.destination].map((address) => peers.find(({ addresses }) => addresses[0] === address)?.id)
    const byId = source === undefined || destination === undefined ? theirs : engine.decide({ ...question, source, destination, at: NOW }).allowed
    if (allowed[question.id] === theirs && byId === theirs) continue
    wrong++
    if (wrong <= 3) say(`  ${JSON.stringify(question)}: nftables ${theirs ? 'lets pass' : 'drops'}, by addresses ${String(allowed[question.id])}, by peers ${String(byId)}`)
  }
  say(`seed ${seed}: ${rules.length} rules, ${asked.length} questions, ${passed.size} passed, ${wrong} answered differently`)
  // What nothing or everything passes through compares nothing.
  if (passed.size < 20 || passed.size > asked.length - 20) say(`  seed ${seed} says little`)
  return wrong
}

/** A third of the addresses belong to nobody; a peer has one, so that a prefix selects what it holds. */
function somePeers(below: (n: number) => number): AclPeer[] {
  return [...sources, ...destinations]
    .filter(() => below(3) > 0)
    .map((address, id) => ({ id, addresses: [address], labels: LABELS.filter(() => below(3) === 0) }))
}

function someRule(id: number, below: (n: number) => number): AclRule {
  const pick = <T>(of: readonly T[]): T => of[below(of.length)] as T
  const several = <T>(most: number, one: () => T): T[] => Array.from({ length: 1 + below(most) }, one)
  const selector = (of: readonly string[]) => (): string => {
    const address = pick(of)
    const six = address.includes(':')
    switch (below(6)) {
      case 0:
        return '*'
      case 1:
        return pick(LABELS)
      case 2:
        return address
      case 3: {
        const last = parseInt(address.slice(address.lastIndexOf(six ? ':' : '.') + 1), six ? 16 : 10)
        const base = address.slice(0, address.lastIndexOf(six ? ':' : '.') + 1)
        const end = Math.min(255, last + below(20))
        return `${address}-${base}${six ? end.toString(16) : end}`
      }
      default: {
        const free = below(6)
        const last = parseInt(address.slice(address.lastIndexOf(six ? ':' : '.') + 1), six ? 16 : 10)
        const first = (last >> free) << free
        return `${address.slice(0, address.lastIndexOf(six ? ':' : '.') + 1)}${six ? first.toString(16) : first}/${(six ? 128 : 32) - free}`
      }
    }
  }
  const rule: AclRule = {
    id,
    priority: below(4),
    action: below(3) === 0 ? 'deny' : 'allow',
    enabled: below(8) !== 0,
    sources: several(3, selector(sources)),
    destinations: several(3, selector(destinations)),
  }
  if (below(2) === 0) rule.protocols = pick([[6], [17], [6, 17], [1]])
  if (below(3) > 0) {
    rule.ports = several(2, () => {
      const low = pick(ports)
      return [low, low + below(4)] as const
    })
  }
  if (below(5) === 0) rule.expiresAt = NOW + below(2)
  return rule
}

/** The rules as nftables has them: in the order in which they decide, the first that matches being final. */
function load(rules: readonly AclRule[], peers: readonly AclPeer[], folder: string): void {
  const live = rules.filter(({ enabled = true, expiresAt = Infinity }) => enabled && expiresAt > NOW)
  const sorted = live.toSorted((a, b) => b.priority - a.priority || Number(a.action === 'allow') - Number(b.action === 'allow') || a.id - b.id)
  const addresses = (selector: string): string[] =>
    LABELS.includes(selector) ? peers.filter(({ labels }) => labels.includes(selector)).flatMap((peer) => peer.addresses) : [selector]
  const match = (side: 'saddr' | 'daddr', of: string): { family: string | undefined; text: string } => {
    if (of === '*') return { family: undefined, text: '' }
    const family = of.includes(':') ? 'ip6' : 'ip'
    return { family, text: `${family} ${side} ${of}` }
  }
  const refuse = (condition: string): string[] => [`${condition} meta l4proto tcp reject with tcp reset`, `${condition} drop`]
  const lines = sorted.flatMap((rule) =>
    rule.sources.flatMap(addresses).flatMap((source) =>
      rule.destinations.flatMap(addresses).flatMap((destination) => {
        const [from, to] = [match('saddr', source), match('daddr', destination)]
        if (from.family !== undefined && to.family !== undefined && from.family !== to.family) return []
        return (rule.protocols ?? [6, 17]).flatMap((protocol) =>
          (rule.ports ?? [[0, 65535]]).flatMap(([low, high]) => {
            const condition = `${from.text} ${to.text} meta l4proto ${protocol} ${protocol === 1 ? '' : `th dport ${low}-${high}`}`
            return rule.action === 'allow' ? [`${condition} accept`] : refuse(condition)
          }),
        )
      }),
    ),
  )
  const ruleset = `flush ruleset
table inet oracle {
  chain input {
    type filter hook input priority 0; policy drop;
    meta l4proto icmpv6 accept
    udp dport ${CONTROL} accept
    ${[...lines, ...refuse('')].join('\n    ')}
  }
}
`
  const file = join(folder, 'ruleset')
  writeFileSync(file, ruleset)
  run('ip', ['netns', 'exec', names.to, 'nft', '-f', file])
}

function link(): void {
  run('ip', ['netns', 'add', names.to])
  run('ip', ['link', 'add', 'oracle0', 'netns', names.from, 'type', 'veth', 'peer', 'name', 'oracle1', 'netns', names.to])
  const both = [[names.from, 'oracle0', sources], [names.to, 'oracle1', destinations]] as const
  for (const [name, device, addresses] of both) {
    for (const address of addresses) run('ip', ['-n', name, 'address', 'add', `${address}/${address.includes(':') ? '64' : '24'}`, 'dev', device, ...(address.includes(':') ? ['nodad'] : [])])
    for (const one of ['lo', device]) run('ip', ['-n', name, 'link', 'set', one, 'up'])
    const [there, six] = name === names.from ? ['10.2.0.0/24', 'fd02::/64'] : ['10.1.0.0/24', 'fd01::/64']
    for (const route of [there, six]) run('ip', ['-n', name, 'route', 'add', route, 'dev', device])
  }
}

function run(program: string, args: readonly string[]): void {
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr.slice(0, 500)}`)
}

/** This program again, in a namespace. */
function start(as: string, name: string): ChildProcess {
  const args = ['netns', 'exec', name, process.execPath, ...process.execArgv, __filename]
  return spawn('ip', args, { stdio: ['inherit', 'inherit', 'inherit', 'ipc'], env: { ...process.env, ORACLE_ROLE: as } })
}

/** In the namespace of the ruleset: notes which datagrams arrive, and tells whoever asks on the control port. */
function receive(): void {
  const arrived = new Set<number>()
  const servers = ports.map((port) => createServer((socket) => socket.on('error', () => {}).end()).listen({ port, host: '::' }))
  const sockets = [...ports, CONTROL].flatMap((port) => (['udp4', 'udp6'] as const).map((type) => {
    const socket = createSocket({ type, ipv6Only: type === 'udp6', recvBufferSize: 1 << 20 })
    const seen = socket.on('message', (message, { address, port: back }) => {
      const number = message.readUInt32LE(0)
      if (port !== CONTROL) arrived.add(number)
      else socket.send(JSON.stringify([...arrived].filter((one) => one >= number)), back, address)
    })
    return seen.bind(port)
  }))
  void Promise.all([...servers, ...sockets].map((one) => once(one, 'listening'))).then(() => process.send?.('ready'))
}

/** In the other namespace: asks, and tells which questions passed. */
function send(): void {
  const bound = new Map<string, Socket>()
  const ready = sources.map(async (address) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
    bound.set(address, socket)
    socket.bind({ address })
    await once(socket, 'listening')
  })
  let serial = 0
  process.on('message', (job: Job) => {
    void (async () => {
      const passed: number[] = []
      for (let at = 0; at < job.questions.length; at += 50) {
        const part = job.questions.slice(at, at + 50)
        const tcp = part.filter(({ protocol }) => protocol === 6).map(async (question) => ((await connects(question)) ? [question.id] : []))
        // Numbers of their own for each attempt, as answers that come late are of another question.
        const datagrams = new Map(part.filter(({ protocol }) => protocol === 17).map((question) => [++serial, question]))
        for (const [number, { source, destination, port }] of datagrams) {
          const message = Buffer.alloc(4)
          message.writeUInt32LE(number)
          await new Promise((resolve) => bound.get(source)?.send(message, port, destination, resolve))
        }
        const arrived = await settled(bound.get(sources[0] ?? '') as Socket, serial - datagrams.size + 1)
        passed.push(...(await Promise.all(tcp)).flat(), ...[...datagrams].filter(([number]) => arrived.has(number)).map(([, { id }]) => id))
      }
      process.send?.(passed)
    })()
  })
  void Promise.all(ready).then(() => process.send?.('ready'))
}

/** The numbers of the datagrams that have arrived, from one on, when no more have come for a while. */
async function settled(socket: Socket, from: number): Promise<Set<number>> {
  const ask = Buffer.alloc(4)
  ask.writeUInt32LE(from)
  for (let before = -1; ; ) {
    await new Promise((resolve) => setTimeout(resolve, 20))
    const answer = once(socket, 'message') as Promise<[Buffer]>
    socket.send(ask, CONTROL, destinations[0])
    // The question or its answer may be lost as well.
    const again = setInterval(() => socket.send(ask, CONTROL, destinations[0]), 500)
    const [message] = await answer
    clearInterval(again)
    const arrived = JSON.parse(message.toString()) as number[]
    if (arrived.length === before) return new Set(arrived)
    before = arrived.length
  }
}

/** A connection that the ruleset refuses is reset, so that no time-out tells the two apart. */
async function connects({ source, destination, port }: Question): Promise<boolean> {
  const socket = connect({ host: destination, port, localAddress: source })
  try {
    await once(socket, 'connect')
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') return false
    throw error
  } finally {
    socket.destroy()
  }
}

/** SplitMix32, so that a seed gives the same rules everywhere. */
function random(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x9e3779b9) | 0
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return ((mixed ^ (mixed >>> 15)) >>> 0) % below
  }
}
