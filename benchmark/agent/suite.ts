/** A machine that joins a network: how soon it is in, how soon it obeys, what it costs. Real packets, in network namespaces. */
import type { Suite } from '../suite.js'

export const suite: Suite = {
  name: 'agent',
  cases: [
    { name: 'up-to-first-ping', unit: 'ms', better: 'lower' },
    { name: 'edit-to-enforcement', unit: 'ms', better: 'lower', must: 1000 },
    { name: 'memory-1000-peers', unit: 'MB', better: 'lower' },
  ],
  subjects: [{ name: 'zqlite', program: 'agent/zqlite.ts' }],
  context: () => ({ tunnel: 'wireguard-go, since namespaces share a kernel that may have no WireGuard' }),
}
