// A whole domain over a journal in memory, with a sync that checks what it is told.

import { createHash, randomBytes } from 'node:crypto';
import { AclEngine } from 'zqlite';
import { createDomain, type Domain } from '../../src/domain.js';
import type { Journal } from '../../src/journal/journal.js';
import { MemoryJournal } from '../../src/journal/memory.js';
import { silentLog } from '../../src/log.js';
import type { Peer } from '../../src/peers/peer.js';
import type { Registration } from '../../src/peers/peers.js';
import type { FilterRule } from '../../src/topology/filter.js';
import type { NetmapBatch } from '../../src/topology/topology.js';

/** Holds views as sync does, and throws where sync would. */
export class StrictSync {
  readonly batches: NetmapBatch[] = [];
  readonly records = new Map<number, string>();
  readonly views = new Map<number, Set<number>>();
  /** Texts, by view. */
  readonly filters = new Map<number, string>();
  readonly recipients = new Map<number, { view: number; self: string }>();
  readonly #ids = new Map<number, string>();
  #revision = 0;

  publish(batch: NetmapBatch): void {
    const { revision, puts, removes, filters, views, recipients } = batch;
    const must = (held: boolean, message: string): void => {
      if (!held) throw new Error(`sync refuses the batch at revision ${revision}: ${message}`);
    };
    this.batches.push(batch);
    must(revision >= this.#revision, 'revision goes back');
    this.#revision = revision;
    for (const handle of removes) {
      must(this.records.delete(handle), `removes unknown ${handle}`);
      for (const view of this.views.values()) view.delete(handle);
    }
    for (const { handle, id, record } of puts) {
      must(!removes.includes(handle), `puts and removes ${handle}`);
      must((this.#ids.get(handle) ?? id) === id, `handle ${handle} changes its id`);
      must((JSON.parse(record) as { id: string }).id === id, 'record has another id');
      this.#ids.set(handle, id);
      this.records.set(handle, record);
    }
    for (const change of views) {
      if ('drop' in change) continue;
      const view = this.views.get(change.view) ?? new Set();
      this.views.set(change.view, view);
      if (change.filter !== undefined) {
        const text = filters[change.filter];
        must(text !== undefined, `view ${change.view} names filter ${change.filter} of ${filters.length}`);
        must(this.filters.get(change.view) !== text, `view ${change.view} has this filter already`);
        this.filters.set(change.view, text ?? '');
      }
      must(this.filters.has(change.view), `view ${change.view} has no filter`);
      for (const handle of change.remove) must(view.delete(handle), `view ${change.view} hides ${handle}, which it does not show`);
      for (const handle of change.add) {
        must(this.records.has(handle), `view ${change.view} shows unknown ${handle}`);
        must(!view.has(handle), `view ${change.view} shows ${handle} already`);
        view.add(handle);
      }
    }
    for (const change of recipients) {
      if ('revoked' in change) must(this.recipients.delete(change.handle), `revokes unknown ${change.handle}`);
      else {
        must(this.views.has(change.view), `view ${change.view} does not exist`);
        this.recipients.set(change.handle, { view: change.view, self: change.self });
      }
    }
    for (const change of views) {
      if (!('drop' in change)) continue;
      must(this.views.delete(change.view), `drops unknown view ${change.view}`);
      this.filters.delete(change.view);
      must(![...this.recipients.values()].some(({ view }) => view === change.view), `view ${change.view} is in use`);
    }
  }

  /** The filter that a recipient is told. */
  filterOf(handle: number): { readonly digest: string; readonly rules: FilterRule[] } {
    const text = this.filters.get(this.recipients.get(handle)?.view ?? -1) ?? '[]';
    return { digest: createHash('sha256').update(text).digest('hex'), rules: JSON.parse(text) as FilterRule[] };
  }

  /** Handles that a recipient sees, in order. */
  seenBy(handle: number): number[] {
    const view = this.views.get(this.recipients.get(handle)?.view ?? -1) ?? new Set();
    return [...view].filter((other) => other !== handle).sort((a, b) => a - b);
  }
}

export type NewPeer = Partial<Registration> & { readonly tags?: string[]; readonly approvedRoutes?: string[] };

export interface TestNetwork extends Domain {
  readonly journal: Journal;
  readonly sync: StrictSync;
  readonly engine: AclEngine;
  /** A reusable pre-auth key. */
  readonly key: string;
  readonly failures: unknown[];
  register(registration?: Partial<Registration>): Promise<Peer>;
  /** Registers peers one after the other, and gives them the tags and approves the routes that are named. */
  populate(...peers: readonly NewPeer[]): Promise<Peer[]>;
  stop(): Promise<void>;
}

export const NETWORK = { ipv4: '100.64.0.0/10', ipv6: 'fd7a:115c:a1e0::/48', domain: 'mesh.internal' };

export const wireguardKey = (): string => randomBytes(32).toString('base64');

/** Of the whole network, and free again at once. */
export const ADDRESSES = { pools: [] as string[], quarantine: 0 };

export async function startNetwork(journal: Journal = new MemoryJournal(), network = NETWORK, addresses = ADDRESSES): Promise<TestNetwork> {
  const sync = new StrictSync();
  const engine = new AclEngine();
  const failures: unknown[] = [];
  const domain = createDomain({
    journal,
    network,
    addresses,
    log: silentLog,
    engine,
    scratchEngine: () => new AclEngine(),
    publish: (batch) => sync.publish(batch),
  });
  await domain.replica.start((error) => failures.push(error));
  const { text: key } = await domain.preauthKeys.create({ description: '', expiresAt: null, maxUses: null, tags: [], user: null });
  const register = async (registration: Partial<Registration> = {}): Promise<Peer> =>
    (await domain.peers.register({ preauthKey: key, wireguardKey: wireguardKey(), hostname: 'host', ...registration })).peer;
  return {
    ...domain,
    journal,
    sync,
    engine,
    key,
    failures,
    register,
    populate: async (...wanted) => {
      const made: Peer[] = [];
      for (const { tags, approvedRoutes, ...registration } of wanted) {
        const peer = await register(registration);
        const change = { ...(tags && { tags }), ...(approvedRoutes && { approvedRoutes }) };
        made.push(Object.keys(change).length === 0 ? peer : await domain.peers.update(peer.id, change));
      }
      return made;
    },
    stop: () => domain.replica.stop(),
  };
}
