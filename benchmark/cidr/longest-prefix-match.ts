/** The npm package longest-prefix-match. */
import { createRequire } from 'node:module'
import { subject } from '../subject.js'
import { run } from './load.js'

type Matcher = new () => { addPrefix: (prefix: string, value: unknown) => void; getMatch: (prefix: string) => unknown }
const LongestPrefixMatch = createRequire(import.meta.url)('longest-prefix-match') as Matcher | { default: Matcher }

subject(async (effort) =>
  run(effort, (prefixes) => {
    const table = new ('default' in LongestPrefixMatch ? LongestPrefixMatch.default : LongestPrefixMatch)()
    for (const [i, prefix] of prefixes.entries()) table.addPrefix(prefix, i)
    return {
      lookup: (address) => table.getMatch(address.includes(':') ? `${address}/128` : `${address}/32`),
      insert: (prefix, value) => table.addPrefix(prefix, value),
    }
  }),
)
