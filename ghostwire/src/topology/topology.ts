// Who sees whom: turns peers and policy into the views that sync shows.
//
// Peers that no rule can tell apart form a class (the ACL engine's notion), and all peers of a class share one view: the
// union of the members of the classes that theirs sees. So the work of a change is per class, never per pair of peers.
//
// Nothing is computed while events arrive; they only mark what changed. `publish` then compares the present with what
// was published last and sends the difference, so a peer that came and went in between costs nothing.
//
// Invariant between two publishes: `#classes`, `#classOf` and the views derived from them are what sync holds.

import { createHash } from 'node:crypto';
import type { AclEngine, AclPeer } from 'zqlite';
import type { Directory } from '../peers/directory.js';
import { publicRecord, type NetmapPeer, type Peer } from '../peers/peer.js';
import type { CompiledPolicy } from '../policy/compile.js';
import { relabelled } from '../policy/relabelled.js';
import { Filters } from './filters.js';
import { Primaries, type Carried, type Remember } from './primaries.js';

/** The part of the ACL engine used here. */
export type VisibilityEngine = Pick<AclEngine, 'setRules' | 'putPeers' | 'removePeers' | 'peerClass' | 'peerClasses' | 'visibleClasses'>;

/** What sync is told. Handles and views are u32; a record, self or filter is JSON text. A view names its filter by its place in the list. */
export interface NetmapBatch {
  readonly revision: number;
  readonly puts: { handle: number; id: string; record: string; changedAt?: number }[];
  readonly removes: number[];
  readonly filters: string[];
  readonly views: ({ view: number; add: Uint32Array; remove: Uint32Array; filter?: number } | { view: number; drop: true })[];
  readonly recipients: ({ handle: number; view: number; self: string } | { handle: number; revoked: true })[];
}

interface Class {
  readonly view: number;
  /** Handles. */
  readonly members: Set<number>;
  /** Digest of the filter that sync holds for the view. */
  filter: string;
  /** Classes that this one sees; symmetric, since traffic in either direction makes both visible. */
  readonly visible: Set<number>;
}

interface Edit {
  readonly add: Set<number>;
  readonly remove: Set<number>;
  filter?: number;
}

export interface TopologyOptions {
  readonly directory: Directory;
  readonly engine: VisibilityEngine;
  /** The policy in force. */
  readonly policy: () => CompiledPolicy;
  /** The journal's revision that wrote it. */
  readonly policyRevision: () => number;
  /** Peers are told that they are <name>.<domain>, and which addresses are the network's. */
  readonly network: { readonly ipv4: string; readonly ipv6: string; readonly domain: string };
  readonly publish: (batch: NetmapBatch) => void;
  readonly isOnline: (handle: number) => boolean;
  /** Keeps which router carries a prefix, for `recall` after a restart. */
  readonly remember: Remember;
}

export class Topology {
  readonly #options: TopologyOptions;
  #classes = new Map<number, Class>();
  #classOf = new Map<number, number>();
  /** What sync and the engine hold of each peer. */
  readonly #published = new Map<number, Peer>();
  /** Handles of peers that came, went or changed since the last publish. */
  #dirty = new Set<number>();
  #policyChanged = true;
  /** The policy that the engine holds. */
  #applied: CompiledPolicy | undefined;
  #nextView = 1;
  #filters = new Filters([]);
  /** Labels that some filter names; of a peer, only these are anybody's business. */
  #sourceLabels = new Set<string>();
  /** The labels that have been told of each peer, joined. */
  #told = new Map<number, string>();

  readonly #primaries: Primaries;

  constructor(options: TopologyOptions) {
    this.#options = options;
    this.#primaries = new Primaries(options.isOnline, options.remember);
  }

  peerChanged(handle: number): void {
    this.#dirty.add(handle);
  }

  policyChanged(): void {
    this.#policyChanged = true;
  }

  /** Who carried a prefix before this process, to be said before the first publish; later it is known better. */
  recall(prefix: string, handle: number): void {
    if (this.#applied === undefined) this.#primaries.recall(prefix, handle);
  }

  /** Some of these peers, or any, may have come online or gone offline. @returns whether there is something to publish */
  presenceChanged(handles?: Iterable<number>): boolean {
    const concerned = this.#primaries.review(handles);
    for (const handle of concerned) this.#dirty.add(handle);
    return concerned.size > 0;
  }

  /** Of the approved routes of a peer, those that others are told to send to it. */
  primaryRoutes({ handle, record }: Peer): readonly string[] {
    return this.#primaries.routes(handle, record.approvedRoutes);
  }

  /** Approved subnets that hold an address, the longest first, and who carries them. */
  carrying(address: string): Carried[] {
    return this.#primaries.holding(address);
  }

  /** Handles of the peers that this one sees, without itself. */
  visible(handle: number): number[] {
    const own = this.#classes.get(this.#classOf.get(handle) ?? -1);
    if (own === undefined) return [];
    return this.#content(this.#classes, own).filter((other) => other !== handle);
  }

  /** Classes and views at present; for metrics. */
  get classes(): number {
    return this.#classes.size;
  }

  /** Sends sync what changed since the last call. */
  publish(revision: number): void {
    if (this.#dirty.size === 0 && !this.#policyChanged) return;
    const { directory } = this.#options;
    const draft = new Draft();
    const present: Peer[] = [];
    // Who takes over a route from another, or loses one to it, has changed too.
    const approved = Array.from(this.#dirty, (handle) => [handle, directory.atHandle(handle)?.record.approvedRoutes ?? []] as const);
    for (const handle of this.#primaries.approve(approved)) this.#dirty.add(handle);
    for (const handle of this.#dirty) {
      const peer = directory.atHandle(handle);
      if (peer !== undefined) present.push(peer);
      else if (this.#published.delete(handle)) draft.removes.push(handle);
    }
    if (this.#policyChanged) this.#rebuild(draft, present);
    else this.#update(draft, present);
    for (const handle of draft.removes) this.#told.delete(handle);

    const batch = this.#finish(draft, present, revision);
    for (const peer of present) this.#published.set(peer.handle, peer);
    this.#dirty = new Set();
    this.#policyChanged = false;
    this.#options.publish(batch);
  }

  /** The rules are as before; some peers are not. */
  #update(draft: Draft, present: readonly Peer[]): void {
    const { engine } = this.#options;
    for (const handle of draft.removes) this.#leave(handle, draft, false);
    engine.removePeers(draft.removes);
    const moved = present.filter((peer) => !sameAccess(peer, this.#published.get(peer.handle)));
    engine.putPeers(moved.map((peer) => this.#aclPeer(peer)));
    for (const { handle } of moved) {
      const next = engine.peerClass(handle);
      if (this.#classOf.get(handle) === next) continue;
      this.#leave(handle, draft, true);
      this.#join(handle, next, draft);
    }
  }

  /** @param edit whether to take the peer out of views; sync does that itself for records that are removed */
  #leave(handle: number, draft: Draft, edit: boolean): void {
    const id = this.#classOf.get(handle);
    const left = this.#classes.get(id ?? -1);
    if (id === undefined || left === undefined) return;
    this.#classOf.delete(handle);
    left.members.delete(handle);
    for (const other of left.visible) {
      const viewer = this.#classes.get(other);
      if (viewer !== undefined && edit) draft.hide(viewer.view, handle);
    }
    if (left.members.size > 0) return;
    for (const other of left.visible) this.#classes.get(other)?.visible.delete(id);
    this.#classes.delete(id);
    draft.drop(left.view);
  }

  #join(handle: number, id: number, draft: Draft): void {
    let joined = this.#classes.get(id);
    if (joined === undefined) {
      joined = { view: this.#nextView++, members: new Set(), visible: new Set(), filter: '' };
      this.#classes.set(id, joined);
      draft.create(joined.view);
      this.#setFilter(joined, handle, draft);
      for (const other of this.#options.engine.visibleClasses(id)) {
        const seen = this.#classes.get(other);
        // A class that is not here yet will find this one when its first member joins.
        if (seen === undefined) continue;
        joined.visible.add(other);
        seen.visible.add(id);
      }
      for (const member of this.#content(this.#classes, joined)) draft.show(joined.view, member);
    }
    joined.members.add(handle);
    this.#classOf.set(handle, id);
    for (const other of joined.visible) {
      const viewer = this.#classes.get(other);
      if (viewer !== undefined) draft.show(viewer.view, handle);
    }
  }

  /** The rules changed, and with them labels and classes: everything is worked out anew, and compared with what was. */
  #rebuild(draft: Draft, present: readonly Peer[]): void {
    const { engine, directory, policy } = this.#options;
    const oldClasses = this.#classes;
    const oldClassOf = this.#classOf;
    for (const handle of draft.removes) {
      oldClasses.get(oldClassOf.get(handle) ?? -1)?.members.delete(handle);
      oldClassOf.delete(handle);
    }
    engine.removePeers(draft.removes);
    const next = policy();
    engine.setRules([...next.rules]);
    this.#filters = new Filters(next.rules);
    this.#sourceLabels = this.#filters.sourceLabels();
    const others = this.#applied === undefined ? [...directory.all()] : [...relabelled(directory.all(), this.#applied, next), ...present];
    engine.putPeers([...new Set(others)].map((peer) => this.#aclPeer(peer)));
    this.#applied = next;

    const members = new Map<number, Set<number>>();
    this.#classOf = new Map();
    const all = Uint32Array.from(directory.all(), ({ handle }) => handle);
    for (const [index, id] of engine.peerClasses(all).entries()) {
      const handle = all[index] ?? 0;
      this.#classOf.set(handle, id);
      const known = members.get(id);
      if (known === undefined) members.set(id, new Set([handle]));
      else known.add(handle);
    }

    // A class keeps the view that most of its members had, so that they are sent a difference and not a new map.
    const unclaimed = new Map([...oldClasses.values()].map((old) => [old.view, old]));
    this.#classes = new Map();
    for (const [id, handles] of members) {
      const view = commonView(handles, oldClasses, oldClassOf, unclaimed);
      if (view !== undefined) unclaimed.delete(view);
      this.#classes.set(id, { view: view ?? this.#nextView++, members: handles, visible: new Set(engine.visibleClasses(id)), filter: '' });
    }
    for (const view of unclaimed.keys()) draft.drop(view);

    const byView = new Map([...oldClasses.values()].map((old) => [old.view, old]));
    for (const current of this.#classes.values()) {
      const old = byView.get(current.view);
      if (old === undefined) draft.create(current.view);
      else current.filter = old.filter;
      const [member] = current.members;
      if (member !== undefined) this.#setFilter(current, member, draft);
      const before = old === undefined ? [] : this.#content(oldClasses, old);
      const after = new Set(this.#content(this.#classes, current));
      for (const handle of before) {
        if (!after.delete(handle)) draft.hide(current.view, handle);
      }
      for (const handle of after) draft.show(current.view, handle);
      for (const handle of current.members) {
        if (oldClasses.get(oldClassOf.get(handle) ?? -1)?.view !== current.view) draft.moved.add(handle);
      }
    }
  }

  #content(classes: ReadonlyMap<number, Class>, viewer: Class): number[] {
    const handles: number[] = [];
    for (const id of viewer.visible) {
      for (const handle of classes.get(id)?.members ?? []) handles.push(handle);
    }
    return handles;
  }

  #aclPeer(peer: Peer): AclPeer {
    return aclPeer(peer, this.#options.policy());
  }

  #finish(draft: Draft, present: readonly Peer[], revision: number): NetmapBatch {
    const { directory, policyRevision } = this.#options;
    const written = policyRevision();
    const fresh = new Set(present.map(({ handle }) => handle));
    const puts: NetmapBatch['puts'] = [];
    const recipients: NetmapBatch['recipients'] = draft.removes.map((handle) => ({ handle, revoked: true }));
    // Other rules may mean other labels and another filter for those who did not change.
    const concerned = this.#policyChanged ? [...directory.all()] : present;
    for (const peer of concerned) {
      const { handle, id } = peer;
      const labels = this.#labels(peer);
      const joined = labels.join();
      if (!fresh.has(handle) && this.#told.get(handle) === joined) continue;
      this.#told.set(handle, joined);
      const record = JSON.stringify(this.#record(peer, labels));
      // The labels are the policy's word. Which routes a router has depends on more than any revision says.
      const dated = peer.record.approvedRoutes.length === 0 && { changedAt: Math.max(peer.revision, written) };
      puts.push({ handle, id, record, ...dated });
      this.#tell(recipients, peer, record);
      draft.moved.delete(handle);
    }
    for (const handle of draft.moved) {
      const peer = directory.atHandle(handle);
      if (peer !== undefined) this.#tell(recipients, peer, JSON.stringify(this.#record(peer, this.#labels(peer))));
    }
    return { revision, puts, removes: draft.removes, filters: [...draft.filters], views: draft.views(), recipients };
  }

  #record(peer: Peer, labels: readonly string[]): NetmapPeer {
    return publicRecord(peer, labels, this.primaryRoutes(peer));
  }

  #labels({ record }: Peer): string[] {
    return this.#options.policy().labels(record).filter((label) => this.#sourceLabels.has(label)).sort();
  }

  /** Gives the view of a class the filter of its peers, of whom `member` is one, if it has another. */
  #setFilter(of: Class, member: number, draft: Draft): void {
    const peer = this.#options.directory.atHandle(member);
    if (peer === undefined) return;
    const text = JSON.stringify(this.#filters.of(this.#aclPeer(peer)));
    const digest = createHash('sha256').update(text).digest('base64');
    if (digest === of.filter) return;
    of.filter = digest;
    draft.filter(of.view, text);
  }

  /** What a peer is told of itself: its record, and what only it needs to know. */
  #tell(recipients: NetmapBatch['recipients'], peer: Peer, record: string): void {
    const own = this.#classes.get(this.#classOf.get(peer.handle) ?? -1);
    if (own === undefined) return;
    const { ipv4, ipv6, domain } = this.#options.network;
    const { advertisedRoutes, approvedRoutes } = peer.record;
    const more = JSON.stringify({ domain, network: [ipv4, ipv6], advertisedRoutes, approvedRoutes });
    recipients.push({ handle: peer.handle, view: own.view, self: `${record.slice(0, -1)},${more.slice(1)}` });
  }
}

/** A peer as the ACL engine knows it under a policy. */
export function aclPeer({ handle, record }: Peer, policy: CompiledPolicy): AclPeer {
  return { id: handle, addresses: [record.ipv4, record.ipv6], ...policy.subject(record) };
}

/** Whether the rules see no difference, so that a renamed peer stays where it is. */
function sameAccess({ record: a }: Peer, other: Peer | undefined): boolean {
  const b = other?.record;
  if (b === undefined) return false;
  return (
    a.ipv4 === b.ipv4 &&
    a.ipv6 === b.ipv6 &&
    a.user === b.user &&
    a.tags.join() === b.tags.join() &&
    a.approvedRoutes.join() === b.approvedRoutes.join()
  );
}

/** The unclaimed view that most of these peers see at present. */
function commonView(
  handles: ReadonlySet<number>,
  classes: ReadonlyMap<number, Class>,
  classOf: ReadonlyMap<number, number>,
  unclaimed: ReadonlyMap<number, Class>,
): number | undefined {
  const votes = new Map<number, number>();
  for (const handle of handles) {
    const view = classes.get(classOf.get(handle) ?? -1)?.view;
    if (view !== undefined && unclaimed.has(view)) votes.set(view, (votes.get(view) ?? 0) + 1);
  }
  let best: number | undefined;
  for (const [view, count] of votes) {
    if (best === undefined || count > (votes.get(best) ?? 0)) best = view;
  }
  return best;
}

/** A batch in the making: opposite edits cancel. */
class Draft {
  readonly removes: number[] = [];
  /** Peers that see another view than before. */
  readonly moved = new Set<number>();
  readonly #edits = new Map<number, Edit>();
  /** Texts of filters in the order of the batch. */
  readonly #places = new Map<string, number>();
  /** Views that sync does not know yet. */
  readonly #created = new Set<number>();
  readonly #dropped = new Set<number>();

  create(view: number): void {
    this.#created.add(view);
    this.#edit(view);
  }

  drop(view: number): void {
    this.#edits.delete(view);
    if (!this.#created.delete(view)) this.#dropped.add(view);
  }

  show(view: number, handle: number): void {
    const { add, remove } = this.#edit(view);
    if (!remove.delete(handle)) add.add(handle);
  }

  hide(view: number, handle: number): void {
    const { add, remove } = this.#edit(view);
    if (!add.delete(handle)) remove.add(handle);
  }

  /** Views of equal filters name one. */
  filter(view: number, text: string): void {
    let place = this.#places.get(text);
    if (place === undefined) this.#places.set(text, (place = this.#places.size));
    this.#edit(view).filter = place;
  }

  get filters(): Iterable<string> {
    return this.#places.keys();
  }

  views(): NetmapBatch['views'] {
    const edits = [...this.#edits].map(([view, { add, remove, filter }]) => ({
      view,
      add: Uint32Array.from(add),
      remove: Uint32Array.from(remove),
      ...(filter !== undefined && { filter }),
    }));
    return [...edits, ...[...this.#dropped].map((view) => ({ view, drop: true as const }))];
  }

  #edit(view: number): Edit {
    let edit = this.#edits.get(view);
    if (edit === undefined) this.#edits.set(view, (edit = { add: new Set(), remove: new Set() }));
    return edit;
  }
}
