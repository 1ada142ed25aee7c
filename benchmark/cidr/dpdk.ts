/**
 * DPDK's own test of its FIB library (Debian: dpdk-dev), DIR-24-8 for IPv4 and its trie for IPv6, on the same routes and
 * addresses. It prints cycles of the time stamp counter for a lookup; of the lookup functions that this processor can
 * run, the fastest counts.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { subject } from '../subject.js'
import { asText } from './load.js'

subject(async (effort) => {
  const { prefixes, addresses } = asText(effort)
  const [routes, lookups] = [join(effort.folder, 'routes'), join(effort.folder, 'addresses')]
  // It wants a next hop of more than 0; which one is no matter to its speed.
  writeFileSync(routes, prefixes.map((prefix, i) => `${prefix} ${(i % 65_000) + 1}\n`).join(''))
  writeFileSync(lookups, addresses.map((address) => `${address}\n`).join(''))
  const v6 = effort.case.startsWith('v6')
  const cycles = (v6 ? ['s', 'v'] : ['s1', 's2', 's3', 'v']).flatMap((lookup) => {
    const own = ['-f', routes, '-t', lookups, '-e', '4', '-g', v6 ? '400000' : '100000', '-v', lookup, ...(v6 ? ['-6'] : [])]
    const { stdout } = spawnSync('dpdk-test-fib', ['--no-huge', '-m', '2048', '--no-pci', '--no-telemetry', '-l', '0', '--', ...own], { encoding: 'utf8' })
    return [...stdout.matchAll(/AVG FIB lookup (\d+(?:\.\d+)?)/g)].map(([, figure]) => Number(figure))
  })
  if (cycles.length === 0) throw new Error('dpdk-test-fib printed no time of a lookup')
  return Math.min(...cycles) / cyclesPerNanosecond()
})

function cyclesPerNanosecond(): number {
  const [, megahertz] = /^cpu MHz\s*: (\d+\.\d+)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8')) ?? []
  if (megahertz === undefined) throw new Error('/proc/cpuinfo does not tell how fast the time stamp counter runs')
  return Number(megahertz) / 1000
}
