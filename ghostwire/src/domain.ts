// The domain put together over a journal: no sockets, no files.

import type { AclEngine, AclRule } from 'zqlite';
import { AddressPools } from './addresses/pools.js';
import { ADDRESSES } from './addresses/record.js';
import type { Config } from './config.js';
import type { Journal } from './journal/journal.js';
import { AdminKeys } from './keys/admin.js';
import { PreauthKeys } from './keys/preauth.js';
import type { Log } from './log.js';
import { Directory, PEERS } from './peers/directory.js';
import { Names } from './peers/names.js';
import { Peers } from './peers/peers.js';
import { Whois } from './peers/whois.js';
import { Access } from './policy/access.js';
import { Enforcement } from './policy/enforcement.js';
import { Explainer } from './policy/explain.js';
import { Policies } from './policy/policies.js';
import { Preview } from './policy/preview.js';
import { NativeRules, RULES } from './policy/rules.js';
import { Replica } from './replica.js';
import { Presence } from './topology/presence.js';
import { checkLength } from './topology/filter.js';
import { aclPeer, Topology, type NetmapBatch } from './topology/topology.js';

export interface Domain {
  readonly replica: Replica;
  readonly adminKeys: AdminKeys;
  readonly preauthKeys: PreauthKeys;
  readonly directory: Directory;
  readonly addresses: AddressPools;
  readonly peers: Peers;
  readonly whois: Whois;
  readonly policies: Policies;
  readonly rules: NativeRules;
  readonly enforcement: Enforcement;
  readonly explainer: Explainer;
  readonly preview: Preview;
  /** Holds the policy in force and the peers. */
  readonly engine: AclEngine;
  readonly access: Access;
  readonly topology: Topology;
  /** To be told who connects and disconnects, and to be stopped. */
  readonly presence: Presence;
}

export interface DomainOptions {
  readonly journal: Journal;
  readonly network: Config['network'];
  readonly addresses: Config['addresses'];
  readonly log: Log;
  /** An empty engine for the domain's own use. */
  readonly engine: AclEngine;
  /** Makes another one, to try a policy's rules on. */
  readonly scratchEngine: () => Pick<AclEngine, 'setRules'>;
  readonly publish: (batch: NetmapBatch) => void;
}

const HOSTNAMES = 'hostnames/';
/** Which of several routers carries a prefix: that one's id. */
const PRIMARIES = 'route-primaries/';

/** Everything wired, nothing loaded: `replica.start` fills it. */
export function createDomain(options: DomainOptions): Domain {
  const { journal, network, log, engine, scratchEngine, publish } = options;
  const replica = new Replica(journal, log('ghostwire::replica'));
  const adminKeys = new AdminKeys(journal, replica);
  const peersLog = log('ghostwire::peers');
  const directory = new Directory((peer, route) => peersLog.warn({ peer, route }, 'a stored route is none, and is left out'));
  const peerOf = (handle: number) => {
    const peer = directory.atHandle(handle);
    return peer && { id: peer.id, name: peer.record.name };
  };
  const addresses = new AddressPools({ ...network, ...options.addresses, peerOf });
  const preauthKeys = new PreauthKeys({ journal, replica, addresses });
  const checkRules = (checked: readonly AclRule[]): void => {
    checkLength(checked);
    scratchEngine().setRules([...checked]);
  };
  const policies: Policies = new Policies({ journal, replica, log: log('ghostwire::policy'), checkRules, peers: () => directory.all(), native: () => rules });
  const groups = () => ({ names: policies.groups, condition: policies.condition });
  const rules = new NativeRules({ journal, replica, groups, checkRules });
  const enforcement = new Enforcement(policies, rules);
  const names = new Names();
  const topology = new Topology({
    directory,
    engine,
    policy: () => enforcement.policy,
    policyRevision: () => policies.current.revision,
    network,
    publish,
    isOnline: (handle) => presence.isOnline(handle),
    remember: (prefix, handle) => {
      const id = handle === undefined ? undefined : directory.atHandle(handle)?.id;
      const key = PRIMARIES + prefix;
      journal
        .commit(id === undefined ? { deletes: [key] } : { puts: [{ key, value: id }] })
        .catch((error: unknown) => log('ghostwire::topology').warn({ err: error, prefix }, 'which router carries a network could not be kept for the next start'));
    },
  });
  const presence = new Presence((handles) => {
    if (topology.presenceChanged(handles)) replica.refresh();
  });

  replica.on('policy/', () => topology.policyChanged());
  replica.on(RULES, () => enforcement.changed());
  replica.on(PEERS, (event) => {
    const { before, after } = directory.apply(event);
    const handle = (after ?? before)?.handle;
    if (handle !== undefined) topology.peerChanged(handle);
  });
  // After the peers, whose handles it needs.
  replica.on(PRIMARIES, ({ key, value }) => {
    const peer = typeof value === 'string' ? directory.get(value) : undefined;
    if (peer !== undefined) topology.recall(key.slice(PRIMARIES.length), peer.handle);
  });
  replica.on(ADDRESSES, ({ key, value, revision }) => {
    addresses.apply(key.slice(ADDRESSES.length), value, revision, (id) => directory.get(id)?.handle);
  });
  replica.on(HOSTNAMES, ({ key, value }) => {
    const name = key.slice(HOSTNAMES.length);
    if (value === undefined) names.release(name);
    else names.take(name);
  });
  replica.onPublish((revision) => {
    topology.publish(revision);
    enforcement.watch(async () => {
      if (replica.following) await rules.noteExpiry();
    });
  });

  const moved = (handle: number): void => {
    topology.peerChanged(handle);
    replica.refresh();
  };
  const peers = new Peers({ journal, replica, directory, names, addresses, preauthKeys, policies, moved });
  const whois = new Whois(addresses, directory, topology);
  const access = new Access(engine, directory, enforcement);
  const explainer = new Explainer(engine, directory, { policies, rules, enforcement });
  const preview = new Preview(engine, directory, aclPeer);
  return { replica, adminKeys, preauthKeys, directory, addresses, peers, whois, policies, rules, enforcement, explainer, preview, engine, access, topology, presence };
}
