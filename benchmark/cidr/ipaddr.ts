/** The npm package ipaddr.js: addresses with `match`, the list is the user's own scan, longest prefix first. */
import { createRequire } from 'node:module'
import { subject } from '../subject.js'
import { run } from './load.js'

interface Address {
  kind: () => string
  match: (range: [Address, number]) => boolean
}
const ipaddr = createRequire(import.meta.url)('ipaddr.js') as { parse: (address: string) => Address; parseCIDR: (prefix: string) => [Address, number] }

subject(async (effort) =>
  run(effort, (prefixes) => {
    const ranges = prefixes.map((prefix) => ipaddr.parseCIDR(prefix)).toSorted((a, b) => b[1] - a[1])
    const lookup = (text: string): unknown => {
      const address = ipaddr.parse(text)
      return ranges.find((range) => range[0].kind() === address.kind() && address.match(range))
    }
    return { lookup, insert: (prefix) => ranges.push(ipaddr.parseCIDR(prefix)) }
  }),
)
