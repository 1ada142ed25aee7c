/**
 * Ghostwire's agent, on machines of the lab that its end-to-end tests use. Needs root, wireguard-go and nftables.
 *
 * `up-to-first-ping` is from the start of `ghostwire up` on the second machine to the first answer that it gets from the first;
 * `edit-to-enforcement` from the start of the program that sends `PUT /v1/policy` to the last answered packet of a flow that it forbids;
 * `memory-1000-peers` the agent's resident memory a while after it has applied a netmap of a thousand peers.
 */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Lab, lacking, until, type Machine } from '../../ghostwire/__test__/support/lab.js'
import { median, subject } from '../subject.js'

const TRAFFIC = fileURLToPath(new URL('../../ghostwire/__test__/support/traffic.mjs', import.meta.url))

interface Network {
  readonly coord: Machine
  readonly join: string
  /** Calls the API, on the coordinator's machine. */
  readonly call: (method: string, path: string, body: string) => Promise<string>
}

subject(async (effort) => {
  const missing = await lacking()
  if (missing.length > 0) throw new Error(`needs ${missing.join(', ')}`)
  const lab = new Lab()
  try {
    const network = await start(lab)
    if (effort.case === 'up-to-first-ping') return await firstPing(lab, network, effort.quick ? 2 : 7)
    if (effort.case === 'edit-to-enforcement') return await enforcement(lab, network, effort.quick ? 3 : 15)
    return await memory(lab, network)
  } finally {
    await lab.close()
  }
})

async function start(lab: Lab): Promise<Network> {
  const coord = await lab.public('coord', 1)
  const server = coord.spawn('ghostwire', 'serve', '--json', '--host', '203.0.113.1', '--insecure', '--db-path', `${coord.folder}/tmp/ghostwire.db`, '--log-filter', 'warn')
  const [line] = (await once(server.stdout ?? server, 'data')) as [Buffer]
  const { join, adminKey } = JSON.parse(line.toString()) as { join: string; adminKey: string }
  const call = (method: string, path: string, body: string): Promise<string> => {
    const type = path === '/v1/policy' ? 'application/hujson' : 'application/json'
    return coord.do('curl', '-sSf', '-X', method, `http://203.0.113.1:8080${path}`, '-H', `authorization: Bearer ${adminKey}`, '-H', `content-type: ${type}`, '-d', body)
  }
  return { coord, join, call }
}

async function firstPing(lab: Lab, { join }: Network, rounds: number): Promise<number> {
  const first = await lab.public('first', 11)
  await first.do('sh', '-c', join)
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    const next = await lab.public(`next${round}`, 20 + round)
    const began = performance.now()
    await next.do('sh', '-c', `${join} && until ping -n -c 1 -W 1 100.64.0.1; do :; done`)
    times.push(performance.now() - began)
  }
  return median(times)
}

async function enforcement(lab: Lab, { join, call }: Network, rounds: number): Promise<number> {
  const [web, laptop] = [await lab.public('web', 11), await lab.public('laptop', 12)]
  for (const machine of [web, laptop]) await machine.do('sh', '-c', join)
  const server = web.spawn(process.execPath, TRAFFIC, 'serve', '80')
  await once(server.stdout ?? server, 'data')
  // Two hundred packets a second.
  const ping = laptop.spawn('ping', '-n', '-i', '0.005', '100.64.0.1')
  let last = 0
  let count = 0
  ping.stdout?.on('data', () => {
    last = performance.now()
    count++
  })
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    const before = count
    await until('it flows', () => count > before + 20)
    // Not from its answer: by then it is mostly done.
    const began = performance.now()
    await call('PUT', '/v1/policy', '{"acls": []}')
    await sleep(1500)
    times.push(last - began)
    await call('PUT', '/v1/policy', '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}')
  }
  return median(times)
}

async function memory(lab: Lab, { coord, join, call }: Network): Promise<number> {
  const { key } = JSON.parse(await call('POST', '/v1/preauth-keys', '{"maxUses": null}')) as { key: string }
  await coord.do(process.execPath, '-e', REGISTER, key)
  const machine = await lab.public('agent', 11)
  await machine.do('sh', '-c', join)
  const status = async (): Promise<{ peers: unknown[]; memory: number }> => JSON.parse(await machine.do('ghostwire', 'status', '--json')) as { peers: unknown[]; memory: number }
  await until('the peers are there', async () => (await status()).peers.length === 1000, 60_000)
  await sleep(5000)
  return (await status()).memory / 2 ** 20
}

/** Registers a thousand peers that will never be there, in the coordinator's own network. */
const REGISTER = `
  const register = (n) => fetch('http://203.0.113.1:8080/v1/peers/register', { method: 'POST', headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ preauthKey: process.argv[1], hostname: 'peer-' + n, wireguardKey: require('crypto').randomBytes(32).toString('base64'), endpoints: ['203.0.113.250:51820'] }) })
  ;(async () => {
    for (let n = 0; n < 1000; n += 50) {
      const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => register(n + i)))
      if (answers.some((answer) => !answer.ok)) throw new Error('not registered')
    }
  })()`
