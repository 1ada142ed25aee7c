// A client of the peers' wire protocol (docs/protocol.md): holds the part of the network that this peer may see, current
// for as long as there is a connection, and the last good state otherwise.
//
// Whatever a server sends is checked before it is applied, and applied whole or not at all. A message that cannot be right
// ends the connection, and the next one starts from a full map.

import { createHash } from 'node:crypto';
import { EventEmitter } from 'node:events';
import type { Agent } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { Type, type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { WebSocket, type RawData } from 'ws';

/** A peer as the server describes it. Nothing is known of its members but the id. */
export type PeerRecord = Readonly<Record<string, unknown>> & { readonly id: string };
export type SelfRecord = Readonly<Record<string, unknown>>;

/** Who may send what to this peer: rules, whose meaning is not this client's business, and by what they are known. */
export interface PacketFilter {
  readonly digest: string;
  readonly rules: readonly unknown[];
}

/** A state that can be kept, and resumed from by another client. */
export interface Snapshot {
  readonly epoch: string;
  readonly revision: number;
  readonly self: SelfRecord | null;
  /** Absent or null: none. */
  readonly packetFilter?: PacketFilter | null;
  readonly peers: readonly PeerRecord[];
}

export interface Change {
  /** A full map replaces what was held; a delta adds to it. */
  readonly kind: 'full' | 'delta';
  readonly epoch: string;
  readonly revision: number;
  /** Peers that are new or were sent again; mostly they differ from what was held. */
  readonly changed: readonly PeerRecord[];
  /** Peers that were held and are gone. */
  readonly removed: readonly PeerRecord[];
  /** What is told of this peer itself, if it was sent. */
  readonly self?: SelfRecord | null;
  /** The packet filter, if it is another one now. */
  readonly packetFilter?: PacketFilter | null;
}

export interface SyncClientOptions {
  /** Asked before every connection, since tokens are good once. An error with `retryable: false` ends the client. */
  readonly credentials: (signal: AbortSignal) => Promise<{ readonly url: string; readonly token: string }>;
  /** Makes the connections; Node's own by default, which is right for `ws:` and for certificates that this machine trusts. */
  readonly agent?: (url: string) => Agent;
  /** Where to resume from. */
  readonly from?: Snapshot;
  /** The largest message, in bytes; 64 MiB. */
  readonly maxMessageBytes?: number;
  /** Peers held at most; 100,000. */
  readonly maxPeers?: number;
  /** Silence after which the connection counts as lost, in milliseconds; 75,000. The server pings every 30 s. */
  readonly silentMs?: number;
  /** Waits between connections are random, up to a bound that doubles from first to max; 1,000 and 30,000 ms. */
  readonly backoff?: { readonly firstMs: number; readonly maxMs: number };
}

/**
 * Codes: ERR_REVOKED and ERR_REPLACED end the client; ERR_PROTOCOL is a server that makes no sense; ERR_DISCONNECTED a
 * connection that broke; any other was said by the server.
 */
export class SyncClientError extends Error {
  override readonly name = 'SyncClientError';
  readonly code: string;
  readonly retryable: boolean;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.retryable = !FINAL.has(code);
  }
}

const FINAL = new Set(['ERR_REVOKED', 'ERR_REPLACED']);

interface Events {
  /** The state is as of this change. Throwing here is a bug of the listener and is not caught. */
  change: [Change];
  /** The server has answered; `resumed` if it did without a full map. */
  connected: [{ readonly resumed: boolean }];
  /** The connection is lost, or could not be made; the next attempt comes in `retryMs`. */
  disconnected: [{ readonly error: Error; readonly retryMs: number }];
  /** There will be no further attempt; `error` is absent after `close`. */
  ended: [{ readonly error?: Error }];
}

const Id = Type.String({ minLength: 1, maxLength: 128 });
const Peers = Type.Array(Type.Object({ id: Id }));
const Self = Type.Unsafe<SelfRecord>(Type.Object({}));
const head = { epoch: Type.String({ minLength: 1, maxLength: 128 }), revision: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }) };
const Filter = Type.Union([Type.Object({ digest: Type.String({ pattern: '^[0-9a-f]{64}$' }), rules: Type.Array(Type.Unknown()) }), Type.Null()]);
const Full = Type.Object({ type: Type.Literal('full'), ...head, self: Type.Union([Self, Type.Null()]), packetFilter: Filter, peers: Peers });
const Delta = Type.Object({
  type: Type.Literal('delta'),
  ...head,
  self: Type.Optional(Self),
  packetFilter: Type.Optional(Filter),
  changed: Peers,
  removed: Type.Array(Id),
  visible: Type.Optional(Type.Array(Id)),
});
const Revoked = Type.Object({ type: Type.Literal('revoked') });
const Failure = Type.Object({ type: Type.Literal('error'), code: Type.String({ pattern: '^ERR_[A-Z_]{1,60}$' }), message: Type.String({ maxLength: 1000 }) });
const message = Compile(Type.Union([Full, Delta, Revoked, Failure]));

/** A connection that lasted this long was good: the next failure waits as little as a first one. */
const STABLE_MS = 10_000;
const HANDSHAKE_MS = 10_000;
const CLOSE_MS = 1_000;

export class SyncClient extends EventEmitter<Events> {
  readonly #options: Required<Omit<SyncClientOptions, 'from' | 'agent'>> & Pick<SyncClientOptions, 'agent'>;
  readonly #stop = new AbortController();
  #peers = new Map<string, PeerRecord>();
  #self: SelfRecord | null = null;
  #filter: PacketFilter | null = null;
  /** Absent before the first full map, and after a message that could not be right. */
  #position: { readonly epoch: string; readonly revision: number } | undefined;
  #running: Promise<void> | undefined;
  #socket: WebSocket | undefined;
  /** The connection was given up by us: the network is another one, and what failed before says nothing of it. */
  #fresh = false;

  constructor({ from, ...options }: SyncClientOptions) {
    super();
    this.#options = {
      maxMessageBytes: 64 * 1024 * 1024,
      maxPeers: 100_000,
      silentMs: 75_000,
      backoff: { firstMs: 1_000, maxMs: 30_000 },
      ...options,
    };
    if (from !== undefined) {
      this.#peers = new Map(from.peers.map((peer) => [peer.id, peer]));
      this.#self = from.self;
      this.#filter = from.packetFilter ?? null;
      this.#position = { epoch: from.epoch, revision: from.revision };
    }
  }

  /** Connects, and from then on keeps trying. To be called once. */
  start(): this {
    this.#running ??= this.#run();
    return this;
  }

  get peers(): ReadonlyMap<string, PeerRecord> {
    return this.#peers;
  }

  /** What the server says of this peer itself. */
  get self(): SelfRecord | null {
    return this.#self;
  }

  /** What may be sent to this peer, as the server says. */
  get packetFilter(): PacketFilter | null {
    return this.#filter;
  }

  get epoch(): string | undefined {
    return this.#position?.epoch;
  }

  get revision(): number | undefined {
    return this.#position?.revision;
  }

  get digest(): string {
    return digestOf(this.#peers.keys());
  }

  snapshot(): Snapshot | undefined {
    return this.#position && { ...this.#position, self: this.#self, packetFilter: this.#filter, peers: [...this.#peers.values()] };
  }

  /** Gives up the present connection for a new one: it may lead nowhere since the network has changed. */
  reconnect(): void {
    this.#fresh = true;
    this.#socket?.terminate();
  }

  /** Disconnects and stays disconnected. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { firstMs, maxMs } = this.#options.backoff;
    let failures = 0;
    let end: Error | undefined;
    while (!signal.aborted) {
      const begun = performance.now();
      const error = await this.#connect(signal);
      if (signal.aborted) break;
      if (isFinal(error)) {
        end = error;
        break;
      }
      failures = performance.now() - begun < STABLE_MS && !this.#fresh ? failures + 1 : 1;
      this.#fresh = false;
      // Random over the whole range: after an outage everybody comes back, but not all at once.
      const retryMs = Math.random() * Math.min(maxMs, firstMs * 2 ** Math.min(failures - 1, 30));
      this.emit('disconnected', { error, retryMs });
      await sleep(retryMs, undefined, { signal, ref: true }).catch(() => undefined);
    }
    this.emit('ended', end === undefined ? {} : { error: end });
  }

  /** One connection, from credentials to its end; resolves with why it ended. */
  async #connect(signal: AbortSignal): Promise<Error> {
    let socket: WebSocket;
    let token: string;
    try {
      const credentials = await this.#options.credentials(signal);
      if (signal.aborted) return new SyncClientError('ERR_DISCONNECTED', 'closed');
      token = credentials.token;
      socket = new WebSocket(credentials.url, {
        maxPayload: this.#options.maxMessageBytes,
        handshakeTimeout: HANDSHAKE_MS,
        perMessageDeflate: false,
        followRedirects: false,
        ...(this.#options.agent && { agent: this.#options.agent(credentials.url) }),
      });
    } catch (error) {
      return error instanceof Error ? error : new SyncClientError('ERR_DISCONNECTED', 'no credentials', { cause: error });
    }
    this.#socket = socket;
    return new Promise((resolve) => {
      let reason: Error | undefined;
      let answered = false;
      const end = (error: Error, code = 1000): void => {
        reason ??= error;
        socket.close(code);
        // A server that does not take its leave is left.
        setTimeout(() => socket.terminate(), CLOSE_MS).unref();
      };
      const silence = setTimeout(() => {
        reason ??= new SyncClientError('ERR_DISCONNECTED', 'the server was silent');
        socket.terminate();
      }, this.#options.silentMs);
      const onAbort = (): void => end(new SyncClientError('ERR_DISCONNECTED', 'closed'));
      signal.addEventListener('abort', onAbort);

      socket.on('open', () => socket.send(JSON.stringify({ type: 'hello', token, ...this.#resume() })));
      socket.on('ping', () => silence.refresh());
      socket.on('message', (data, isBinary) => {
        silence.refresh();
        if (reason !== undefined) return;
        try {
          const change = this.#take(data, isBinary);
          if (!answered) this.emit('connected', { resumed: change.kind === 'delta' });
          answered = true;
          this.emit('change', change);
        } catch (error) {
          if (!(error instanceof SyncClientError)) throw error;
          // From nonsense nothing can be resumed; what is held stays.
          if (error.code === 'ERR_PROTOCOL') this.#position = undefined;
          end(error, error.code === 'ERR_PROTOCOL' ? 1008 : 1000);
        }
      });
      socket.on('error', (error) => {
        reason ??= new SyncClientError('ERR_DISCONNECTED', error.message, { cause: error });
      });
      socket.on('close', (code) => {
        clearTimeout(silence);
        signal.removeEventListener('abort', onAbort);
        if (code === 4001) reason = revoked();
        if (code === 4002) reason ??= new SyncClientError('ERR_REPLACED', 'this peer has connected again elsewhere');
        resolve(reason ?? new SyncClientError('ERR_DISCONNECTED', `the connection was closed with code ${code}`));
      });
    });
  }

  #resume(): object {
    if (this.#position === undefined) return {};
    return { ...this.#position, digest: this.digest, ...(this.#filter !== null && { packetFilter: this.#filter.digest }) };
  }

  /** Checks a message and applies it. */
  #take(data: RawData, isBinary: boolean): Change {
    if (isBinary) throw nonsense('a message is not text');
    const value = parse(data);
    if (value.type === 'revoked') throw revoked();
    if (value.type === 'error') throw new SyncClientError(value.code, value.message);
    return value.type === 'full' ? this.#takeFull(value) : this.#takeDelta(value);
  }

  #takeFull({ epoch, revision, self, packetFilter, peers }: Static<typeof Full>): Change {
    const next = new Map(peers.map((peer) => [peer.id, peer]));
    if (next.size !== peers.length) throw nonsense('a full map names a peer twice');
    this.#bound(next.size);
    const removed = [...this.#peers.values()].filter((peer) => !next.has(peer.id));
    this.#peers = next;
    this.#self = self;
    this.#filter = packetFilter;
    this.#position = { epoch, revision };
    return { kind: 'full', epoch, revision, changed: peers, removed, self, packetFilter };
  }

  #takeDelta({ epoch, revision, self, packetFilter, changed, removed, visible }: Static<typeof Delta>): Change {
    const { epoch: heldEpoch, revision: heldRevision } = this.#position ?? { epoch: undefined, revision: 0 };
    // Which is so too when there is nothing yet that it could be a delta of.
    if (epoch !== heldEpoch) throw nonsense('a delta is of another epoch');
    if (revision < heldRevision) throw nonsense('a delta goes back in time');
    const fresh = new Set(changed.map((peer) => peer.id));
    const gone = new Set(removed.filter((id) => this.#peers.has(id) && !fresh.has(id)));
    if (visible !== undefined) {
      const seen = new Set(visible);
      for (const id of this.#peers.keys()) if (!seen.has(id)) gone.add(id);
      for (const id of seen) if (!fresh.has(id) && !this.#peers.has(id)) throw nonsense('a visible peer was not sent');
      for (const id of fresh) if (!seen.has(id)) throw nonsense('a peer was sent that is not visible');
    }
    let size = this.#peers.size - gone.size;
    for (const id of fresh) if (!this.#peers.has(id)) size += 1;
    this.#bound(size);

    const lost: PeerRecord[] = [];
    for (const id of gone) {
      const peer = this.#peers.get(id);
      if (peer !== undefined) lost.push(peer);
      this.#peers.delete(id);
    }
    for (const peer of changed) this.#peers.set(peer.id, peer);
    if (self !== undefined) this.#self = self;
    if (packetFilter !== undefined) this.#filter = packetFilter;
    this.#position = { epoch, revision };
    return {
      kind: 'delta',
      epoch,
      revision,
      changed,
      removed: lost,
      ...(self !== undefined && { self }),
      ...(packetFilter !== undefined && { packetFilter }),
    };
  }

  #bound(size: number): void {
    const { maxPeers } = this.#options;
    if (size > maxPeers) throw nonsense(`${size} peers are more than the ${maxPeers} allowed`);
  }
}

/**
 * The digest of a set of ids: the XOR of the first 8 bytes of the SHA-256 of each, as 16 hex digits.
 */
export function digestOf(ids: Iterable<string>): string {
  let digest = 0n;
  for (const id of ids) digest ^= createHash('sha256').update(id).digest().readBigUInt64BE();
  return digest.toString(16).padStart(16, '0');
}

function parse(data: RawData): Static<typeof Full> | Static<typeof Delta> | Static<typeof Revoked> | Static<typeof Failure> {
  let value: unknown;
  try {
    value = JSON.parse((data as Buffer).toString());
  } catch (error) {
    throw nonsense('a message is not JSON', error);
  }
  if (!message.Check(value)) throw nonsense('a message has none of the known forms');
  return value;
}

const revoked = (): SyncClientError => new SyncClientError('ERR_REVOKED', 'this peer was revoked');
const nonsense = (text: string, cause?: unknown): SyncClientError => new SyncClientError('ERR_PROTOCOL', text, { cause });

const isFinal = (error: Error): boolean => 'retryable' in error && error.retryable === false;
