// Registering, changing and removing peers. Each is one journal commit.

import type { AddressPools, PeerAddresses, Proposal } from '../addresses/pools.js';
import { addressPath } from '../addresses/record.js';
import { commit, untilCommitted, type Conflict } from '../commit.js';
import { GhostwireError } from '../errors.js';
import type { Change, Condition, Journal } from '../journal/journal.js';
import type { Key } from '../keys/keyring.js';
import { usedUp, type PreauthKeys, type PreauthRecord } from '../keys/preauth.js';
import { mintKey } from '../keys/secrets.js';
import type { Policies } from '../policy/policies.js';
import type { Replica } from '../replica.js';
import { PEERS, type Directory } from './directory.js';
import type { Names } from './names.js';
import {
  checkEndpoints,
  checkLabel,
  checkRoutes,
  checkTags,
  checkUser,
  checkWireguardKey,
  wireguardKeyPath,
  type Peer,
  type PeerRecord,
} from './peer.js';

/** What a machine says of itself. Sizes are bounded by the API's schema. */
export interface Registration {
  readonly preauthKey: string;
  readonly wireguardKey: string;
  readonly hostname: string;
  readonly user?: string;
  readonly os?: string;
  readonly version?: string;
  readonly endpoints?: readonly string[];
  readonly tags?: readonly string[];
  readonly routes?: readonly string[];
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface Registered {
  readonly peer: Peer;
  /** The peer's own bearer token; exists only here. */
  readonly token: string;
}

export interface PeerUpdate {
  readonly name?: string;
  readonly tags?: readonly string[];
  /** Any address of the network that nobody has; the IPv6 address follows it. */
  readonly ipv4?: string;
  /** Must have been advertised. */
  readonly approvedRoutes?: readonly string[];
  /** Replaces the metadata as a whole. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** What a machine may change of itself. */
export interface SelfUpdate {
  /** Where others may try to reach it. Soft: neither journalled nor kept over a restart. */
  readonly endpoints?: readonly string[];
  /** Replaces the WireGuard key. */
  readonly wireguardKey?: string;
  /** Replaces the offered prefixes; approvals of those that are no longer offered end. */
  readonly routes?: readonly string[];
}

export interface PeerPage {
  readonly peers: readonly Peer[];
  /** Where the next page starts; undefined on the last one. */
  readonly next: string | undefined;
}

export interface PeerServices {
  readonly journal: Journal;
  readonly replica: Replica;
  readonly directory: Directory;
  readonly names: Names;
  readonly addresses: AddressPools;
  readonly preauthKeys: PreauthKeys;
  readonly policies: Policies;
  /** Told that a peer's endpoints changed, which no commit says. */
  readonly moved: (handle: number) => void;
}

const namePath = (name: string): string => `hostnames/${name}`;

export class Peers {
  readonly #services: PeerServices;

  constructor(services: PeerServices) {
    this.#services = services;
  }

  /**
   * Admits a machine to the network.
   * @throws GhostwireError ERR_KEY_*, ERR_PEER_EXISTS, ERR_USER_NOT_ALLOWED, ERR_TAG_NOT_ALLOWED, ERR_ADDRESS*, or a malformed
   * field's own code
   */
  register(registration: Registration): Promise<Registered> {
    return untilCommitted(`registering ${registration.hostname}`, () => this.#tryRegister(registration));
  }

  async #tryRegister(registration: Registration): Promise<Registered | undefined> {
    const { journal, replica, directory, names, addresses, preauthKeys, policies } = this.#services;
    const key = preauthKeys.check(registration.preauthKey);
    const wireguardKey = checkWireguardKey(registration.wireguardKey);
    const hostname = checkLabel(registration.hostname, 'hostname');
    const user = ownerOf(registration.user, key.record.user);
    const tags = this.#grantedTags(registration.tags ?? [], key.record.tags, user);
    const advertisedRoutes = checkRoutes(registration.routes ?? [], 'routes');
    const endpoints = checkEndpoints(registration.endpoints ?? [], 'endpoints');

    const token = mintKey('peer');
    const id = `p_${token.id}`;
    const fixed = key.record.ipv4;
    const { condition, ...pair } =
      typeof fixed === 'string' ? addresses.claim(fixed, key.id) : addresses.propose(policies.compiled.addressPools({ user, tags }));
    const name = names.propose(hostname);
    directory.expectEndpoints(id, endpoints);
    const release = (): void => {
      directory.expectEndpoints(id, []);
      names.release(name);
    };
    const record: PeerRecord = {
      name,
      hostname,
      user,
      tags,
      wireguardKey,
      ...pair,
      os: registration.os ?? '',
      version: registration.version ?? '',
      advertisedRoutes,
      approvedRoutes: policies.compiled.approve({ user, tags, advertisedRoutes }),
      metadata: registration.metadata ?? {},
      preauthKey: key.id,
      tokenHash: token.hash,
      createdAt: Date.now(),
    };
    let result;
    try {
      result = await commit(journal, registrationChange(id, record, preauthKeys.admit(key), condition));
    } catch (error) {
      release();
      addresses.withdraw(pair);
      throw error;
    }
    if (result.status === 'conflict') {
      release();
      try {
        this.#explain(result, key, record);
        await replica.caughtUp();
        return undefined;
      } finally {
        // Now that an address which another one took is known to be his.
        addresses.withdraw(pair);
      }
    }
    await replica.settled(result.revision);
    return { peer: this.get(id), token: token.text };
  }

  /** The part of a change by which an address is given back: it rests, or is free. */
  #giveBack({ ipv4 }: PeerAddresses): Required<Pick<Change, 'puts' | 'deletes'>> {
    const key = addressPath(ipv4);
    const value = this.#services.addresses.quarantined;
    return value === undefined ? { puts: [], deletes: [key] } : { puts: [{ key, value }], deletes: [] };
  }

  /** Throws what the caller can act on; returns when trying again with newer state may help. */
  #explain({ failed }: Conflict, key: Key<PreauthRecord>, { wireguardKey, name }: PeerRecord): void {
    if ('counter' in failed) throw usedUp(key.id, failed.limit);
    if (failed.key === wireguardKeyPath(wireguardKey)) throw exists(wireguardKey);
    if (failed.key === namePath(name)) this.#services.names.take(name);
  }

  /** Tags of the key come by themselves; others need an owner in the policy. */
  #grantedTags(wanted: readonly string[], ofKey: readonly string[], user: string | null): string[] {
    const tags = checkTags([...ofKey, ...wanted], 'tags');
    for (const tag of tags) {
      if (ofKey.includes(tag)) continue;
      if (user === null || !this.#services.policies.mayTag(user, tag)) {
        throw new GhostwireError(
          'ERR_TAG_NOT_ALLOWED',
          `tags: neither the pre-auth key nor the policy's tagOwners let this peer carry ${tag}`,
          { path: 'tags', tag },
        );
      }
    }
    return tags;
  }

  /** @throws GhostwireError ERR_PEER_NOT_FOUND */
  get(id: string): Peer {
    const peer = this.#services.directory.get(id);
    if (peer === undefined) throw notFound(id);
    return peer;
  }

  /** A page of peers in the order of their ids, starting after `after`. */
  async list({ after, limit }: { readonly after?: string; readonly limit: number }): Promise<PeerPage> {
    const { journal, directory } = this.#services;
    const page = await journal.list(PEERS, { limit, ...(after === undefined ? {} : { after: `${PEERS}${after}` }) });
    const peers = page.entries.map((entry) => directory.get(entry.key.slice(PEERS.length))).filter((peer) => peer !== undefined);
    return { peers, next: page.entries.length < limit ? undefined : page.entries.at(-1)?.key.slice(PEERS.length) };
  }

  /**
   * @throws GhostwireError ERR_PEER_NOT_FOUND, ERR_NAME_TAKEN, ERR_ROUTE, ERR_TAG, ERR_HOSTNAME, ERR_ADDRESS, ERR_ADDRESS_TAKEN
   */
  update(id: string, update: PeerUpdate): Promise<Peer> {
    const { journal, replica, directory, addresses } = this.#services;
    return untilCommitted(`updating peer ${id}`, async () => {
      const { record, revision } = this.get(id);
      const name = update.name === undefined ? record.name : checkLabel(update.name, 'name');
      const changed: PeerRecord = {
        ...record,
        name,
        tags: update.tags === undefined ? record.tags : checkTags(update.tags, 'tags'),
        approvedRoutes: update.approvedRoutes === undefined ? record.approvedRoutes : approved(update.approvedRoutes, record),
        metadata: update.metadata ?? record.metadata,
      };
      const renamed = name !== record.name;
      const holder = renamed ? directory.named(name) : undefined;
      if (holder !== undefined) throw nameTaken(name, holder.id);
      const change = {
        conditions: [{ key: PEERS + id, revision }, ...(renamed ? [{ key: namePath(name), absent: true as const }] : [])],
        puts: [{ key: PEERS + id, value: changed }, ...(renamed ? [{ key: namePath(name), value: id }] : [])],
        deletes: renamed ? [namePath(record.name)] : [],
      };
      const moved = update.ipv4 === undefined || update.ipv4 === record.ipv4 ? undefined : addresses.claim(update.ipv4);
      try {
        const result = await commit(journal, moved === undefined ? change : this.#readdressed(change, id, changed, moved));
        await (result.status === 'conflict' ? replica.caughtUp() : replica.settled(result.revision));
        return result.status === 'conflict' ? undefined : this.get(id);
      } finally {
        // Of no effect once the journal has said whose it is.
        if (moved !== undefined) addresses.withdraw(moved);
      }
    });
  }

  /** `change`, and the peer has other addresses than before. */
  #readdressed(change: Required<Pick<Change, 'conditions' | 'puts' | 'deletes'>>, id: string, record: PeerRecord, { condition, ...pair }: Proposal): Change {
    const back = this.#giveBack(record);
    return {
      conditions: [...change.conditions, condition],
      puts: [
        { key: PEERS + id, value: { ...record, ...pair } },
        ...change.puts.filter(({ key }) => key !== PEERS + id),
        { key: addressPath(pair.ipv4), value: id },
        ...back.puts,
      ],
      deletes: [...change.deletes, ...back.deletes],
    };
  }

  /**
   * What a peer says of itself anew.
   * @throws GhostwireError ERR_PEER_NOT_FOUND, ERR_WIREGUARD_KEY, ERR_PEER_EXISTS, ERR_ROUTE, ERR_ENDPOINT
   */
  async updateSelf(id: string, update: SelfUpdate): Promise<Peer> {
    const { journal, replica, directory } = this.#services;
    const endpoints = update.endpoints === undefined ? undefined : checkEndpoints(update.endpoints, 'endpoints');
    const routes = update.routes === undefined ? undefined : checkRoutes(update.routes, 'routes');
    const key = update.wireguardKey === undefined ? undefined : checkWireguardKey(update.wireguardKey);
    await untilCommitted(`updating peer ${id}`, async () => {
      const { record, revision } = this.get(id);
      const rekeyed = key !== undefined && key !== record.wireguardKey;
      const rerouted = routes !== undefined && routes.join() !== record.advertisedRoutes.join();
      if (!rekeyed && !rerouted) return true;
      const advertisedRoutes = routes ?? record.advertisedRoutes;
      const changed: PeerRecord = {
        ...record,
        wireguardKey: key ?? record.wireguardKey,
        advertisedRoutes,
        approvedRoutes: record.approvedRoutes.filter((route) => advertisedRoutes.includes(route)),
      };
      const path = wireguardKeyPath(changed.wireguardKey);
      const result = await commit(journal, {
        conditions: [{ key: PEERS + id, revision }, ...(rekeyed ? [{ key: path, absent: true as const }] : [])],
        puts: [{ key: PEERS + id, value: changed }, ...(rekeyed ? [{ key: path, value: id }] : [])],
        deletes: rekeyed ? [wireguardKeyPath(record.wireguardKey)] : [],
      });
      if (result.status === 'conflict') {
        if (rekeyed && 'key' in result.failed && result.failed.key === path) throw exists(changed.wireguardKey);
        await replica.caughtUp();
        return undefined;
      }
      await replica.settled(result.revision);
      return true;
    });
    if (endpoints !== undefined && directory.setEndpoints(id, endpoints)) this.#services.moved(this.get(id).handle);
    return this.get(id);
  }

  /** Removes a peer: its name and WireGuard key are free again, its addresses rest, its token is void, others lose sight of it. */
  async delete(id: string): Promise<void> {
    const { journal, replica } = this.#services;
    await untilCommitted(`deleting peer ${id}`, async () => {
      const { record, revision } = this.get(id);
      const { puts, deletes } = this.#giveBack(record);
      const result = await commit(journal, {
        conditions: [{ key: PEERS + id, revision }],
        puts,
        deletes: [PEERS + id, ...deletes, namePath(record.name), wireguardKeyPath(record.wireguardKey)],
      });
      if (result.status === 'conflict') {
        await replica.caughtUp();
        return undefined;
      }
      await replica.settled(result.revision);
      return true;
    });
  }
}

function registrationChange(id: string, record: PeerRecord, admission: ReturnType<PreauthKeys['admit']>, address: Condition): Change {
  const owned = [wireguardKeyPath(record.wireguardKey), namePath(record.name)];
  return {
    conditions: [admission.condition, ...owned.map((key) => ({ key, absent: true as const })), address],
    takes: [admission.take],
    puts: [{ key: PEERS + id, value: record }, ...[...owned, address.key].map((key) => ({ key, value: id }))],
  };
}

/** A key bound to a user decides; otherwise the machine's word is taken. */
function ownerOf(named: string | undefined, bound: string | null): string | null {
  const user = named === undefined ? null : checkUser(named, 'user');
  if (bound === null) return user;
  if (user !== null && user !== bound)
    throw new GhostwireError('ERR_USER_NOT_ALLOWED', `user: the pre-auth key registers peers of another user than ${user}`, {
      path: 'user',
    });
  return bound;
}

function approved(routes: readonly string[], { advertisedRoutes }: PeerRecord): string[] {
  const checked = checkRoutes(routes, 'approvedRoutes');
  for (const route of checked) {
    if (!advertisedRoutes.includes(route))
      throw new GhostwireError('ERR_ROUTE', `approvedRoutes: the peer does not advertise ${route}`, { path: 'approvedRoutes', route });
  }
  return checked;
}

const notFound = (id: string): GhostwireError =>
  new GhostwireError('ERR_PEER_NOT_FOUND', `no peer has the id ${JSON.stringify(id)}`, { id });
const nameTaken = (name: string, id: string): GhostwireError =>
  new GhostwireError('ERR_NAME_TAKEN', `the name ${name} belongs to peer ${id}`, { name, id });
const exists = (wireguardKey: string): GhostwireError =>
  new GhostwireError('ERR_PEER_EXISTS', `a peer with the WireGuard key ${wireguardKey} is registered already`, { wireguardKey });
