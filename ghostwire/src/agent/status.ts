// What `ghostwire status` shows, put together from what the agent holds.

import type { MeshSelf, Refusal } from './netmap.js';
import type { Plan } from './plan.js';
import type { Identity, Settings } from './state.js';
import type { LivePeer } from './wireguard.js';

export interface PeerStatus {
  readonly name: string;
  readonly id: string;
  readonly addresses: readonly string[];
  readonly publicKey: string;
  /** Where its packets come from; null before there were any. */
  readonly endpoint: string | null;
  readonly candidates: readonly string[];
  readonly routes: readonly string[];
  /** Milliseconds since 1970; null before the first. */
  readonly handshakeAt: number | null;
  /** Bytes. */
  readonly received: number;
  readonly sent: number;
}

export interface Status {
  readonly name: string | null;
  readonly id: string;
  readonly addresses: readonly string[];
  readonly domain: string | null;
  readonly server: string;
  readonly connected: boolean;
  /** Whether a netmap has been applied. */
  readonly ready: boolean;
  readonly revision: number | null;
  readonly interface: string;
  readonly implementation: string;
  readonly publicKey: string;
  readonly endpoints: readonly string[];
  /** The address that the coordinator's STUN responder sees. */
  readonly reflexive: string | null;
  readonly exitNode: string | null;
  readonly advertised: readonly string[];
  readonly approved: readonly string[];
  readonly peers: readonly PeerStatus[];
  readonly refused: readonly Refusal[];
  /** Resident bytes of the agent. */
  readonly memory: number;
  readonly pid: number;
}

export interface StatusInput {
  readonly identity: Identity;
  readonly settings: Settings;
  readonly self: MeshSelf | undefined;
  readonly plan: Plan | undefined;
  readonly live: readonly LivePeer[];
  readonly connected: boolean;
  readonly ready: boolean;
  readonly revision: number | undefined;
  readonly kind: string;
  readonly reflexive: string | undefined;
  readonly refused: readonly Refusal[];
}

export function statusOf({ identity, settings, self, plan, live, ...rest }: StatusInput): Status {
  const byKey = new Map(live.map((peer) => [peer.publicKey, peer]));
  return {
    name: self?.name ?? null,
    id: identity.id,
    addresses: self?.addresses ?? [],
    domain: self?.domain ?? null,
    server: identity.server,
    connected: rest.connected,
    ready: rest.ready,
    revision: rest.revision ?? null,
    interface: settings.interface,
    implementation: rest.kind,
    publicKey: identity.publicKey,
    endpoints: self?.endpoints ?? [],
    reflexive: rest.reflexive ?? null,
    exitNode: settings.exitNode ?? null,
    advertised: settings.advertise,
    approved: self?.routes ?? [],
    peers: (plan?.peers ?? []).map((peer) => {
      const found = byKey.get(peer.publicKey);
      const own = peer.allowedIps.slice(0, 2).map((prefix) => prefix.slice(0, prefix.indexOf('/')));
      return {
        name: peer.name,
        id: peer.id,
        addresses: own,
        publicKey: peer.publicKey,
        endpoint: found?.endpoint ?? null,
        candidates: peer.endpoints,
        routes: peer.allowedIps.slice(2),
        handshakeAt: found?.handshakeAt || null,
        received: found?.received ?? 0,
        sent: found?.sent ?? 0,
      };
    }),
    refused: rest.refused,
    memory: process.memoryUsage.rss(),
    pid: process.pid,
  };
}
