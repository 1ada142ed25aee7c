/**
 * DPDK's own test of its FIB library (Debian: dpdk-dev), DIR-24-8 for IPv4 and its trie for IPv6, on the same routes and
 * addresses. It prints cycles of the time stamp counter for a lookup; of its plain and its vector lookup, where
 * this processor can run it, the faster counts. A next hop takes 4 bytes, as our values do.
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
  const cycles = (v6 ? ['s', 'v'] : ['s1', 'v']).flatMap((lookup) => {
    const own = ['-f', routes, '-t', lookups, '-e', '4', '-g', v6 ? '400000' : '100000', '-v', lookup, ...(v6 ? ['-6'] : [])]
    // Without the width it leaves AVX-512 out; without telemetry and a prefix of its own, another program of DPDK is no matter.
    const eal = [...memory(), '--force-max-simd-bitwidth=512', '--no-pci', '--no-telemetry', '-l', '0']
    const { stdout } = spawnSync('dpdk-test-fib', [...eal, '--', ...own], { encoding: 'utf8' })
    return [...stdout.matchAll(/AVG FIB lookup (\d+(?:\.\d+)?)/g)].map(([, figure]) => Number(figure))
  })
  if (cycles.length === 0) throw new Error('dpdk-test-fib printed no time of a lookup')
  return Math.min(...cycles) / cyclesPerNanosecond()
})

/** Huge pages where enough are reserved (`sysctl vm.nr_hugepages=600`), ordinary ones otherwise. */
function memory(): string[] {
  const [, free] = /^HugePages_Free:\s*(\d+)$/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? []
  return Number(free) >= 560 ? ['--in-memory', '-m', '1100'] : ['--file-prefix', 'zqlite-bench', '--no-huge', '-m', '2048']
}

function cyclesPerNanosecond(): number {
  const [, megahertz] = /^cpu MHz\s*: (\d+\.\d+)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8')) ?? []
  if (megahertz === undefined) throw new Error('/proc/cpuinfo does not tell how fast the time stamp counter runs')
  return Number(megahertz) / 1000
}
