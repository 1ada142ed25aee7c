/** The npm package cidr-matcher: a list that is scanned; it only says whether some prefix holds the address. */
import { createRequire } from 'node:module'
import { subject } from '../subject.js'
import { run } from './load.js'

interface Matcher {
  contains: (address: string) => boolean
  addNetworkClass: (prefix: string) => void
}
const Matcher = createRequire(import.meta.url)('cidr-matcher') as new (prefixes: string[]) => Matcher

subject(async (effort) =>
  run(effort, (prefixes) => {
    const matcher = new Matcher([...prefixes])
    return { lookup: (address) => matcher.contains(address), insert: (prefix) => matcher.addNetworkClass(prefix) }
  }),
)
