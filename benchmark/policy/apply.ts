/** Ours: the coordinator's own domain, without sockets and disk. */
import type { Domain } from '../../ghostwire/src/domain.js'
import { median, subject } from '../subject.js'
import { perCapture } from './captures.js'
import { network, policyText } from './network.js'

const USERS = 5000

subject(async ({ case: name, quick }) => {
  const rounds = quick ? 3 : 9
  if (name === 'captures') return perCapture(rounds)
  if (name === 'put-2000-lines-50k-peers') return put(50_000, 2000, rounds)
  const [lines, peers] = name === 'apply-4000-lines-50k-peers' || name === 'doubled-lines' ? [4000, 50_000] : name.endsWith('100k-peers') || name === 'doubled-peers' ? [2000, 100_000] : [2000, 50_000]
  const large = await apply(peers, lines, rounds)
  return name.startsWith('doubled') ? large / (await apply(50_000, 2000, rounds)) : large
})

/** Two policies in turn, each other than the one before in every rule. */
async function prepared(peers: number, lines: number): Promise<{ domain: Domain; texts: string[] }> {
  const { domain } = await network(peers, USERS)
  const texts = [policyText(lines, USERS, 0), policyText(lines, USERS, 1)]
  for (const text of texts) await domain.policies.put(text)
  return { domain, texts }
}

async function apply(peers: number, lines: number, rounds: number): Promise<number> {
  const { domain, texts } = await prepared(peers, lines)
  const { policies, enforcement, preview } = domain
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    // A remark of its own, so that no text was read before.
    const text = `${texts[0]}// ${round}\n`
    const start = performance.now()
    const compiled = policies.check(text)
    const { concerned } = await preview.difference(enforcement.policy, enforcement.policy, enforcement.with(compiled))
    times.push(performance.now() - start)
    if (concerned === 0) throw new Error('nobody is concerned')
  }
  return median(times)
}

async function put(peers: number, lines: number, rounds: number): Promise<number> {
  const { domain, texts } = await prepared(peers, lines)
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    const start = performance.now()
    await domain.policies.put(`${texts[round % 2]}// ${round}\n`)
    times.push(performance.now() - start)
  }
  return median(times)
}
