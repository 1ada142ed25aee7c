/** The npm package netparser: a sorted list. */
import { createRequire } from 'node:module'
import { subject } from '../subject.js'
import { run } from './load.js'

interface Matcher {
  get: (network: string) => unknown
  add: (network: string) => unknown
}
const { Matcher } = createRequire(import.meta.url)('netparser') as { Matcher: new (networks: string[]) => Matcher }

subject(async (effort) =>
  run(effort, (prefixes) => {
    const matcher = new Matcher([...prefixes])
    return { lookup: (address) => matcher.get(address), insert: (prefix) => matcher.add(prefix) }
  }),
)
