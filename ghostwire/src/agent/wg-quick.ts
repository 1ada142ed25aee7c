// A configuration for a plain WireGuard client, as wg-quick(8) reads it. Pure.
//
// Such a client follows no netmap: it knows the peers of the moment, and its own host has no packet filter of ours. The
// filters of the others hold for it as for everybody.

import type { MeshPeer, MeshSelf } from './netmap.js';
import { ordered } from './paths.js';
import { KEEPALIVE } from './wireguard.js';

/** @param exit name of the peer through which everything else goes */
export function wgQuick(self: MeshSelf, peers: Iterable<MeshPeer>, privateKey: string, exit?: string): string {
  const sections = [...peers]
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((peer) => {
      const routes = peer.routes.filter((route) => !route.endsWith('/0') || peer.name === exit);
      const allowed = [...peer.addresses.map((address) => `${address}/${address.includes(':') ? 128 : 32}`), ...routes];
      // It gets one address and no second try: one that the world sees, and of the family that everybody has.
      const [endpoint] = ordered(peer.endpoints, { onLink: [], reflexive: undefined, ipv6: true }).sort(
        (a, b) => Number(a.startsWith('[')) - Number(b.startsWith('[')),
      );
      return [
        `# ${peer.name}.${self.domain}`,
        '[Peer]',
        `PublicKey = ${peer.publicKey}`,
        `AllowedIPs = ${allowed.join(', ')}`,
        ...(endpoint === undefined ? [] : [`Endpoint = ${endpoint}`]),
        `PersistentKeepalive = ${KEEPALIVE}`,
        '',
      ].join('\n');
    });
  return [
    `# ${self.name}.${self.domain}`,
    '[Interface]',
    `PrivateKey = ${privateKey}`,
    `Address = ${self.addresses.map((address) => `${address}/${address.includes(':') ? 128 : 32}`).join(', ')}`,
    '',
    ...sections,
  ].join('\n');
}
