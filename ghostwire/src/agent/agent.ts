// The agent: follows the netmap and keeps the host as it asks, from `up` to `down`.
//
// Level-triggered: whatever happens only says that something may have changed; then the plan is made from all that is known
// and the difference to what stands is applied. A step that fails is tried again; until then the last good state stands.

import { stunProbe } from '../../native.cjs';
import { SyncClient } from '../client.js';
import { agentFor, forgetConnections } from '../http.js';
import type { Logger } from '../log.js';
import { CoordinatorClient } from './coordinator.js';
import { DnsResponder } from './dns.js';
import { addressesOf, endpointsAt, localNetwork, type Host } from './host.js';
import { hostOf, MAX_MESSAGE, MAX_PEERS, Netmap, type Refusal } from './netmap.js';
import { ordered, Paths, type PathFacts } from './paths.js';
import { plan, type Plan } from './plan.js';
import { setUpResolver } from './resolver.js';
import type { AgentState, Identity, Settings } from './state.js';
import { statusOf, type Status } from './status.js';
import { KEEPALIVE, type LivePeer } from './wireguard.js';

/** How often the interface and the host's addresses are looked at. */
const LOOK_EVERY = 2_000;
/** A NAT forgets a mapping after 30 s and more. */
const PROBE_EVERY = 25_000;
const PROBE_PATIENCE = 3_000;
const RETRY = 2_000;
/** How often handshakes are looked at just after peers came. */
const HURRY_EVERY = 300;
/** Between two endpoint reports that the coordinator does not take as they are. */
const ANNOUNCE_EVERY = 5_000;
const SAVE_AFTER = 2_000;

export interface AgentOptions {
  readonly state: AgentState;
  readonly identity: Identity;
  readonly settings: Settings;
  readonly log: Logger;
  readonly host: Host;
  /** Resolves when the host's filter and interface stand. */
  readonly standing: Promise<void>;
}

export class Agent {
  readonly #state: AgentState;
  readonly #log: Logger;
  readonly #host: Host;
  readonly #coordinator: CoordinatorClient;
  readonly #netmap: Netmap;
  readonly #paths = new Paths();
  readonly #dns: DnsResponder;
  readonly #client: SyncClient;
  readonly #stop = new AbortController();
  readonly #ended: Promise<Error | undefined>;
  #end: (error?: Error) => void = () => undefined;
  #settings: Settings;
  #identity: Identity;
  #plan: Plan | undefined;
  #live: LivePeer[] = [];
  #refused: readonly Refusal[] = [];
  #mapRefused: readonly Refusal[] = [];
  #started = false;
  #connected = false;
  #ready = false;
  #servers: readonly string[] = [];
  #port = 0;
  #local: readonly string[] = [];
  #stun: string | undefined;
  #reflexive: string | undefined;
  #announced = { endpoints: '', at: 0 };
  #dirty = false;
  #working: Promise<void> = Promise.resolve();
  #dnsAddress = '';
  #timers = new Set<NodeJS.Timeout>();
  readonly #standing: Promise<void>;

  constructor({ state, identity, settings, log, host, standing }: AgentOptions) {
    this.#state = state;
    this.#log = log;
    this.#identity = identity;
    this.#settings = settings;
    this.#host = host;
    this.#standing = standing;
    this.#coordinator = new CoordinatorClient({ ...identity, url: identity.server }, identity.token);
    this.#netmap = new Netmap(identity.pools);
    this.#dns = new DnsResponder(() => this.#plan ?? { domain: '', names: new Map() }, log);
    this.#ended = new Promise((resolve) => (this.#end = resolve));
    const from = state.netmap.read();
    this.#client = new SyncClient({
      credentials: async (signal) => {
        const connection = await this.#coordinator.connection(signal);
        if (connection.stun !== null && connection.stun !== this.#stun) {
          this.#stun = connection.stun;
          void this.#probe();
        }
        return connection;
      },
      agent: (url) => agentFor({ url, fingerprint: identity.fingerprint, insecure: identity.insecure }),
      maxMessageBytes: MAX_MESSAGE,
      maxPeers: MAX_PEERS,
      backoff: { firstMs: 500, maxMs: 10_000 },
      ...(from !== undefined && { from }),
    });
    if (from !== undefined) this.#take({ changed: from.peers, removed: [], self: from.self, packetFilter: from.packetFilter ?? null });
  }

  /** Resolves when the filter and the interface stand. @throws GhostwireError ERR_AGENT_SYSTEM */
  async start(): Promise<void> {
    this.#client.on('change', (change) => this.#take(change));
    this.#client.on('connected', ({ resumed }) => {
      this.#connected = true;
      this.#log.info({ resumed }, 'connected to the coordinator');
      void this.#offerRoutes();
    });
    this.#client.on('disconnected', ({ error, retryMs }) => {
      this.#connected = false;
      this.#log.warn({ reason: error.message, retryMs: Math.round(retryMs) }, 'no connection to the coordinator; the last good state stays');
    });
    this.#client.on('ended', ({ error }) => this.#end(error));
    // The netmap comes while the interface is being made.
    this.#client.start();
    try {
      await this.#standing;
    } catch (error) {
      await this.#client.close();
      throw error;
    }
    if (this.#settings.advertise.length > 0) await this.#host.kernel('forwarding');
    this.#port = await this.#host.tunnel.port();
    this.#servers = await addressesOf(this.#identity.server);
    this.#started = true;
    void this.#probe();
    this.#every(LOOK_EVERY, () => this.#look());
    this.#every(PROBE_EVERY, () => this.#probe());
    this.#changed();
  }

  /** Resolves when the coordinator has ended it, with why, or after `stop`. */
  get ended(): Promise<Error | undefined> {
    return this.#ended;
  }

  /** Ends the agent. The host stays as it is: the filter, and the tunnel behind it. `takeDown` is another matter. */
  async stop(): Promise<void> {
    this.#stop.abort();
    for (const timer of this.#timers) clearInterval(timer);
    clearTimeout(this.#hurrying);
    await this.#client.close();
    await this.#working;
    await this.#dns.close();
    this.#save();
    this.#end();
  }

  async status(): Promise<Status> {
    if (this.#started) this.#live = await this.#host.tunnel.peers().catch(() => this.#live);
    return statusOf({
      identity: this.#identity,
      settings: this.#settings,
      self: this.#netmap.self,
      plan: this.#plan,
      live: this.#live,
      connected: this.#connected,
      ready: this.#ready,
      revision: this.#client.revision,
      kind: this.#host.tunnel.kind,
      reflexive: this.#reflexive,
      refused: [...this.#mapRefused, ...this.#refused],
    });
  }

  /** Changes to a new key. Traffic goes on as soon as the others know it. */
  async rotate(): Promise<{ publicKey: string }> {
    const { publicKey } = this.#state.nextKey();
    await this.#coordinator.update({ wireguardKey: publicKey });
    await this.#useKey(publicKey);
    return { publicKey };
  }

  async change(settings: Partial<Settings>): Promise<Settings> {
    this.#settings = { ...this.#settings, ...settings };
    if (settings.exitNode === '') delete (this.#settings as { exitNode?: string }).exitNode;
    this.#state.settings.write(this.#settings);
    if (this.#settings.advertise.length > 0) await this.#host.kernel('forwarding');
    await this.#offerRoutes();
    this.#changed();
    await this.#working;
    return this.#settings;
  }

  /** Leaves the network for good. */
  async leave(): Promise<void> {
    await this.#coordinator.leave();
  }

  #take(change: Parameters<Netmap['apply']>[0]): void {
    this.#mapRefused = this.#netmap.apply(change);
    for (const { subject, reason } of this.#mapRefused) this.#log.error({ code: 'ERR_NETMAP_REFUSED', subject, reason }, 'refused');
    const { self } = this.#netmap;
    if (self === undefined) return;
    if (this.#identity.pools === undefined) {
      this.#identity = { ...this.#identity, pools: self.pools };
      this.#state.identity.write(this.#identity);
    }
    if (this.#started) this.#background('reporting endpoints', () => this.#announce());
    this.#changed();
    this.#saveSoon();
  }

  /** The plan is to be made again: once, however often this is called in the meantime. */
  #changed(): void {
    if (this.#dirty) return;
    this.#dirty = true;
    this.#working = this.#working.then(() => this.#apply());
  }

  async #apply(): Promise<void> {
    this.#dirty = false;
    const { self, filter, peers } = this.#netmap;
    if (self === undefined || !this.#started || this.#stop.signal.aborted) return;
    // Its own change of key, of which an agent before this one did not hear the answer.
    if (self.publicKey !== this.#identity.publicKey && this.#state.isNext(self.publicKey))
      await this.#useKey(self.publicKey).catch((error: unknown) => this.#log.warn({ err: error }, 'taking over the new key failed'));
    const { onLink } = localNetwork(this.#settings.interface);
    const now = Date.now();
    const next = plan({ self, filter, peers: peers.values() }, this.#settings, { interface: this.#settings.interface, onLink, servers: this.#servers, now });
    const known = new Set(this.#refused.map((one) => `${one.subject} ${one.reason}`));
    for (const { subject, reason } of next.refused)
      if (!known.has(`${subject} ${reason}`)) this.#log.error({ code: 'ERR_NETMAP_REFUSED', subject, reason }, 'refused');
    this.#refused = next.refused;
    const facts = this.#facts(onLink);
    this.#paths.keep(new Set(next.peers.map(({ publicKey }) => publicKey)));
    for (const peer of next.peers) this.#paths.offer(peer.publicKey, ordered(peer.endpoints, facts), now);
    try {
      const keepalive = this.#behindNat() ? KEEPALIVE : 0;
      const touched = await this.#host.apply(next, this.#servers, keepalive, (peer) => ordered(peer.endpoints, facts)[0]);
      this.#plan = next;
      if (touched > 0) this.#log.info({ peers: next.peers.length, touched, revision: this.#client.revision }, 'applied');
      await this.#serveNames(next);
      if (!this.#ready) this.#log.info({ addresses: self.addresses, name: self.name }, 'ready');
      this.#ready = true;
      this.#background('reporting endpoints', () => this.#announce());
      if (touched > 0) this.#hurry();
    } catch (error) {
      this.#log.error({ err: error }, 'the netmap could not be applied; trying again');
      setTimeout(() => this.#changed(), RETRY).unref();
    }
    this.#expire(filter, now);
  }

  #hurrying: NodeJS.Timeout | undefined;

  /** Soon after peers came, those who have not answered are tried again. */
  #hurry(): void {
    if (this.#hurrying !== undefined || this.#stop.signal.aborted) return;
    this.#hurrying = setTimeout(() => {
      this.#hurrying = undefined;
      // In turn with plans, which change the same peers.
      this.#working = this.#working.then(() => this.#beginAnew());
    }, HURRY_EVERY).unref();
  }

  async #beginAnew(): Promise<void> {
    try {
      const { peers, more } = this.#paths.hurry(await this.#host.tunnel.peers(), Date.now());
      if (peers.length > 0) await this.#host.tunnel.renew(peers);
      if (more) this.#hurry();
    } catch (error) {
      this.#log.warn({ err: error }, 'handshakes could not be begun anew');
    }
  }

  /** A rule that ends by itself ends here too. */
  #expire(filter: readonly { readonly expiresAt?: number }[], now: number): void {
    const next = Math.min(...filter.map(({ expiresAt = Infinity }) => (expiresAt > now ? expiresAt : Infinity)));
    if (next < now + 86_400_000) setTimeout(() => this.#changed(), next - now + 1).unref();
  }

  async #serveNames({ addresses, domain }: Plan): Promise<void> {
    const [address = ''] = addresses;
    if (!this.#settings.dns || address === this.#dnsAddress) return;
    await this.#dns.listen([address]);
    const before = this.#state.undo.read()?.resolver;
    const setup = await setUpResolver(this.#settings.interface, address, domain);
    if (setup === undefined) this.#log.warn('the resolver of this host is not ours to change; ask the agent for names at its own address');
    else {
      this.#dns.upstream = setup.upstream;
      // What an agent before us has found is what is to be put back.
      this.#host.note({ resolver: before ?? setup.undo });
    }
    this.#dnsAddress = address;
  }

  /** Unless it is known that there is none. */
  #behindNat(): boolean {
    return this.#reflexive === undefined || !localNetwork(this.#settings.interface).addresses.includes(hostOf(this.#reflexive));
  }

  #facts(onLink: readonly string[]): PathFacts {
    return { onLink, reflexive: this.#reflexive, ipv6: onLink.some((prefix) => prefix.includes(':')) };
  }

  async #look(): Promise<void> {
    const { addresses, onLink } = localNetwork(this.#settings.interface);
    const local = [...addresses, ...onLink];
    if (local.join() !== this.#local.join()) {
      const lost = this.#local.filter((one) => !local.includes(one));
      if (this.#local.length > 0) this.#log.info({ addresses, lost }, 'the host has other addresses than before');
      this.#local = local;
      // Connections from an address that is gone would only be found dead after a long silence.
      if (lost.length > 0) {
        forgetConnections();
        this.#client.reconnect();
      }
      this.#servers = await addressesOf(this.#identity.server);
      await this.#probe();
      await this.#announce();
      this.#changed();
    }
    this.#live = await this.#host.tunnel.peers();
    const changes = this.#paths.next(this.#live, Date.now());
    if (changes.size > 0) await this.#host.tunnel.setEndpoints(changes);
    // The coordinator may have been unreachable, or have forgotten.
    if (this.#connected) await this.#announce();
  }

  /** Learns how the world sees WireGuard's port. */
  async #probe(): Promise<void> {
    if (this.#stun === undefined || this.#port === 0) return;
    const [address] = await addressesOf(`stun://${this.#stun}`);
    if (address === undefined) return;
    const port = this.#stun.slice(this.#stun.lastIndexOf(':') + 1);
    const server = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
    try {
      const reflexive = await stunProbe(server, this.#port, PROBE_PATIENCE);
      if (reflexive === this.#reflexive) return;
      this.#log.info({ reflexive }, 'seen from outside as');
      this.#reflexive = reflexive;
      await this.#announce();
      this.#changed();
    } catch (error) {
      this.#log.debug({ reason: (error as Error).message }, 'no answer to STUN');
    }
  }

  /** Tells the coordinator where this host is reached, when it does not know. */
  async #announce(): Promise<void> {
    const { self } = this.#netmap;
    if (self === undefined || !this.#connected || this.#port === 0) return;
    const { addresses } = localNetwork(this.#settings.interface);
    const endpoints = [...new Set([...endpointsAt(addresses, this.#port), ...(this.#reflexive === undefined ? [] : [this.#reflexive])])];
    const wanted = endpoints.toSorted().join();
    if (self.endpoints.toSorted().join() === wanted) return;
    if (this.#announced.endpoints === wanted && Date.now() - this.#announced.at < ANNOUNCE_EVERY) return;
    this.#announced = { endpoints: wanted, at: Date.now() };
    await this.#coordinator.update({ endpoints });
    this.#log.info({ endpoints }, 'reported where this host is reached');
  }

  async #offerRoutes(): Promise<void> {
    const { self } = this.#netmap;
    const { advertise } = this.#settings;
    if (self === undefined || self.advertisedRoutes.toSorted().join() === advertise.toSorted().join()) return;
    await this.#coordinator.update({ routes: advertise }).catch((error: unknown) => this.#log.error({ err: error }, 'cannot offer routes'));
  }

  async #useKey(publicKey: string): Promise<void> {
    if (!this.#state.isNext(publicKey)) return;
    this.#state.adoptKey();
    await this.#host.tunnel.useKey(this.#state.keyFile);
    this.#identity = { ...this.#identity, publicKey };
    this.#state.identity.write(this.#identity);
    this.#log.info({ publicKey }, 'changed to a new key');
  }

  #saving: NodeJS.Timeout | undefined;

  #saveSoon(): void {
    this.#saving ??= setTimeout(() => this.#save(), SAVE_AFTER).unref();
  }

  #save(): void {
    clearTimeout(this.#saving);
    this.#saving = undefined;
    const snapshot = this.#client.snapshot();
    if (snapshot === undefined) return;
    try {
      this.#state.netmap.write(snapshot);
    } catch (error) {
      this.#log.warn({ err: error }, 'the netmap could not be kept for the next start');
    }
  }

  /** One at a time, and never an unhandled rejection. */
  #every(milliseconds: number, work: () => Promise<void>): void {
    let busy = false;
    const timer = setInterval(() => {
      if (busy || this.#stop.signal.aborted) return;
      busy = true;
      work()
        .catch((error: unknown) => this.#log.warn({ err: error }, 'upkeep failed; trying again'))
        .finally(() => (busy = false));
    }, milliseconds);
    this.#timers.add(timer);
  }

  #background(what: string, work: () => Promise<void>): void {
    work().catch((error: unknown) => this.#log.warn({ err: error }, `${what} failed`));
  }
}

