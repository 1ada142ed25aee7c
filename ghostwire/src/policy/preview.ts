// What a change of policy would do to the peers that there are now, before it is made: who gains what, who loses what.
//
// The ACL engine compares itself with a copy that has the other policy; this gives the copy its rules and labels, and
// names what comes back.

import type { AclDifference, AclDifferenceRow, AclEngine, AclPairCounts, AclPassage, AclPeer } from 'zqlite';
import type { Directory } from '../peers/directory.js';
import type { Peer } from '../peers/peer.js';
import { isVisibilityOnly, type CompiledPolicy } from './compile.js';
import { relabelled } from './relabelled.js';

/** Some of the peers or subnets on one side of a change. */
export interface Side {
  /** How many peers there are; `names` has the first of them. */
  readonly peers: number;
  readonly names: string[];
  /** How many ranges of addresses behind routers there are; `subnets` has the first of them. */
  readonly ranges: number;
  readonly subnets: string[];
}

/** What changes from each source to each destination. */
export interface AccessChange {
  readonly sources: Side;
  readonly destinations: Side;
  readonly gained: AclPassage[];
  readonly lost: AclPassage[];
}

export interface AccessDifference {
  /** Ordered pairs of peers, sender first. Exact. */
  readonly pairs: AclPairCounts;
  /** From or to addresses behind routers; each range counts as one. Exact. */
  readonly behind: AclPairCounts;
  /** How many peers may send or be sent something else. Exact. */
  readonly concerned: number;
  /** The largest first. */
  readonly changes: AccessChange[];
  /** Whether `changes` has all of them. */
  readonly complete: boolean;
}

export interface PreviewLimits {
  /** Changes listed at most. */
  readonly changes: number;
  /** Names listed for each side of a change. */
  readonly names: number;
}

const PREVIEW_LIMITS: PreviewLimits = { changes: 200, names: 20 };

export class Preview {
  readonly #engine: AclEngine;
  readonly #directory: Directory;
  readonly #aclPeer: (peer: Peer, policy: CompiledPolicy) => AclPeer;

  /** @param engine holds the policy in force */
  constructor(engine: AclEngine, directory: Directory, aclPeer: (peer: Peer, policy: CompiledPolicy) => AclPeer) {
    this.#engine = engine;
    this.#directory = directory;
    this.#aclPeer = aclPeer;
  }

  /**
   * From one policy to another, both with the native rules.
   * @param inForce the policy that the engine holds
   */
  async difference(
    inForce: CompiledPolicy,
    from: CompiledPolicy,
    to: CompiledPolicy,
    limits: PreviewLimits = PREVIEW_LIMITS,
  ): Promise<AccessDifference> {
    const before = this.#engineWith(from, inForce);
    const after = this.#engineWith(to, inForce);
    return this.#present(await before.difference(after), limits);
  }

  /** A copy of the engine under another policy. */
  #engineWith(policy: CompiledPolicy, inForce: CompiledPolicy): AclEngine {
    const engine = this.#engine.snapshot();
    if (policy !== inForce) {
      engine.setRules([...policy.rules]);
      const others = relabelled(this.#directory.all(), inForce, policy);
      engine.putPeers(others.map((peer) => this.#aclPeer(peer, policy)));
    }
    // Rules that only make peers see each other let nothing pass.
    engine.removeRules(policy.rules.filter(isVisibilityOnly).map(({ id }) => id));
    return engine;
  }

  #present({ pairs, behind, concerned, parties, rows, complete }: AclDifference, limits: PreviewLimits): AccessDifference {
    const size = (index: number): number => parties[index]?.peers?.length ?? 1;
    const total = (indexes: readonly number[]): number => indexes.reduce((sum, index) => sum + size(index), 0);
    const weight = ({ sources, destinations }: AclDifferenceRow): number => total(sources) * total(destinations);
    const largest = rows
      .map((row) => ({ row, weight: weight(row) }))
      .sort((a, b) => b.weight - a.weight)
      .slice(0, limits.changes);
    const side = (indexes: readonly number[]): Side => {
      let peers = 0;
      let ranges = 0;
      const names: string[] = [];
      const subnets: string[] = [];
      for (const index of indexes) {
        const { peers: ids, addresses } = parties[index] ?? {};
        if (addresses !== undefined) {
          ranges += 1;
          if (subnets.length < limits.names) subnets.push(addresses);
        }
        if (ids === undefined) continue;
        peers += ids.length;
        for (const id of ids.subarray(0, limits.names - names.length)) names.push(this.#directory.atHandle(id)?.record.name ?? `(${id})`);
      }
      return { peers, names: names.sort(), ranges, subnets };
    };
    return {
      pairs,
      behind,
      concerned: concerned.length,
      changes: largest.map(({ row: { sources, destinations, gained, lost } }) => ({
        sources: side(sources),
        destinations: side(destinations),
        gained,
        lost,
      })),
      complete: complete && rows.length <= limits.changes,
    };
  }
}
