// The peers' port: what is published here reaches every connected peer that may see it, and nobody else.
//
// Sockets, state and the wire protocol (docs/protocol.md) are native and run on threads of their own; this file names
// and types them. A handle is a u32 that the caller binds to one public id for good, a view a set of handles that is
// shared by all the recipients who see exactly that set.

import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import {
  initLogging as initNativeLogging,
  selfSignedCertificate,
  startStun,
  startSync,
  type NativeStun,
  type NativeSync,
  type NativeSyncOptions,
  type SyncBatch as NativeBatch,
  type SyncMetrics,
  type SyncPresence,
} from '../native.cjs';
import { CATALOGUE, GhostwireError, type GhostwireErrorCode } from './errors.js';

import type { Certificate } from './tls.js';

export type { SyncMetrics, SyncPresence } from '../native.cjs';

/** Times are in milliseconds; what is absent has the default given. */
export interface SyncOptions {
  /** An address, or a name that is resolved once. */
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Names the history that revisions belong to: a client of another epoch is sent a full map. */
  readonly epoch: string;
  /** Open sockets; more are turned away with HTTP status 503. 65,536. */
  readonly maxConnections?: number;
  /** Open sockets that have not said a valid hello. 4,096. */
  readonly maxHandshakes?: number;
  /** Outstanding tokens. 65,536. */
  readonly maxTokens?: number;
  /** The largest message that a peer may send. 4,096. */
  readonly maxHelloBytes?: number;
  /** From accepting the socket to its hello. 5 s. */
  readonly helloDeadlineMs?: number;
  /** How long a peer may go without reading while there is something to send. 30 s. */
  readonly writeDeadlineMs?: number;
  /** 30 s. */
  readonly pingEveryMs?: number;
  /** Silence after which a peer counts as gone; looked at with every ping. 60 s. */
  readonly deadAfterMs?: number;
  /** For `stop` to say goodbye to everyone. 5 s. */
  readonly stopDeadlineMs?: number;
  /** Worker threads. 2. */
  readonly threads?: number;
  /** Serves TLS 1.3 and nothing else; plain without. */
  readonly certificate?: Certificate;
}

type Handles = readonly number[] | Uint32Array;

export interface SyncPut {
  readonly handle: number;
  /** Public id, at most 128 bytes. */
  readonly id: string;
  /** A JSON object whose member `id` is `id`, as text or as its UTF-8 bytes; at most 256 KiB. */
  readonly record: string | Uint8Array;
  /**
   * The revision at which the record last changed, by default now. It counts when the handle has no record yet, as after a
   * start: peers that resume from this revision or a later one are not sent the record again.
   */
  readonly changedAt?: number;
}

/**
 * Makes or edits a view: takes `remove` out and puts `add` in, whose records must exist; `filter` is the place of its new filter in the
 * batch's list. Or forgets it.
 */
export type SyncView =
  | { readonly view: number; readonly add?: Handles; readonly remove?: Handles; readonly filter?: number }
  | { readonly view: number; readonly drop: true };

/** Makes or changes a recipient. Or forgets it: its tokens become void, and its connection ends. */
export type SyncRecipient =
  | {
      readonly handle: number;
      /** What it is shown, its own record left out. */
      readonly view: number;
      /** A JSON object that it is told of itself, at most 256 KiB; unchanged if absent. */
      readonly self?: string | Uint8Array;
    }
  | { readonly handle: number; readonly revoked: true };

/** Takes effect in the order: removes, puts, views, recipients, dropped views. */
export interface SyncBatch {
  /** Never below that of an earlier batch; the same again is allowed, for what is not journalled. */
  readonly revision: number;
  readonly puts?: readonly SyncPut[];
  /** Records that are gone; they leave every view. */
  readonly removes?: Handles;
  /**
   * JSON lists, at most 8 MiB each: what all recipients of a view are told beside its records. Held once however many views
   * have it.
   */
  readonly filters?: readonly (string | Uint8Array)[];
  readonly views?: readonly SyncView[];
  readonly recipients?: readonly SyncRecipient[];
  /** Does not wait for the flush tick. What takes something away never does. */
  readonly urgent?: boolean;
}

/** How often `onEvents` looks, in milliseconds. Presence is soft state: it may be a little late. */
const EVENTS_EVERY = 250;

/** A running server. Its threads do not keep the process alive. */
export class SyncServer {
  readonly #native: NativeSync;
  readonly #timers = new Set<NodeJS.Timeout>();

  private constructor(native: NativeSync) {
    this.#native = native;
  }

  /** @throws GhostwireError ERR_PORT_TAKEN, ERR_LISTEN, ERR_SYNC_OPTION */
  static async start(options: SyncOptions): Promise<SyncServer> {
    const host = await resolve(options.host);
    return new SyncServer(call(() => startSync({ ...(options as NativeSyncOptions), host })));
  }

  get port(): number {
    return this.#native.port;
  }

  /**
   * Takes effect whole or, if it throws, not at all. Never waits for a socket.
   * @throws GhostwireError ERR_SYNC_BATCH, ERR_SHUTTING_DOWN
   */
  publish(batch: SyncBatch): void {
    call(() => this.#native.publish(toNative(batch)));
  }

  /**
   * A token by which the recipient can connect, once, within `ttlMs` (at most an hour).
   * @throws GhostwireError ERR_SYNC_RECIPIENT, ERR_SYNC_TOKENS_FULL, ERR_SYNC_OPTION, ERR_SHUTTING_DOWN
   */
  issueToken(handle: number, ttlMs: number): string {
    return call(() => this.#native.issueToken(handle, ttlMs));
  }

  /** For connections from now on. @throws GhostwireError ERR_CERTIFICATE; then the old one stays */
  changeCertificate(certificate: Certificate): void {
    call(() => this.#native.changeCertificate({ ...certificate }));
  }

  /** How many recipients are connected. */
  connections(): number {
    return this.#native.connections();
  }

  metrics(): SyncMetrics {
    return this.#native.metrics();
  }

  /** Who came and went since this was last asked: the latest of each recipient, in no order. */
  takeEvents(): SyncPresence[] {
    return this.#native.takeEvents();
  }

  /** Calls `listener` with what `takeEvents` gives, until the function that is returned is called. */
  onEvents(listener: (events: SyncPresence[]) => void): () => void {
    const timer = setInterval(() => {
      const events = this.takeEvents();
      if (events.length > 0) listener(events);
    }, EVENTS_EVERY);
    timer.unref();
    this.#timers.add(timer);
    return () => {
      clearInterval(timer);
      this.#timers.delete(timer);
    };
  }

  /** Frees the port and closes every connection; resolves when all are closed or the stop deadline is over. */
  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    await this.#native.stop();
  }
}

/** Answers STUN Binding requests (RFC 8489) on a thread of its own. */
export class StunServer {
  readonly #native: NativeStun;

  private constructor(native: NativeStun) {
    this.#native = native;
  }

  /** @throws GhostwireError ERR_PORT_TAKEN, ERR_LISTEN */
  static async start({ host, port }: { readonly host: string; readonly port: number }): Promise<StunServer> {
    const address = await resolve(host);
    return new StunServer(call(() => startStun(address, port)));
  }

  get port(): number {
    return this.#native.port;
  }

  stop(): void {
    this.#native.stop();
  }
}

/** A certificate for these names and addresses that nobody but itself has signed. @throws GhostwireError ERR_CERTIFICATE */
export function selfSigned(names: readonly string[]): Certificate {
  return call(() => selfSignedCertificate([...names]));
}

/**
 * Starts the log of the native part, JSON lines on standard error, with a filter such as `info,ghostwire_sync=debug`.
 * The first call of a process counts.
 */
export function initLogging(filter: string): void {
  call(() => initNativeLogging(filter));
}

async function resolve(host: string): Promise<string> {
  if (host === '') return '0.0.0.0';
  if (isIP(host) !== 0) return host;
  try {
    return (await lookup(host)).address;
  } catch (error) {
    throw new GhostwireError('ERR_LISTEN', `cannot listen on ${host}: its address is unknown`, { host }, { cause: error });
  }
}

/** Runs a native call, with its errors in our class and with the caller's stack. */
function call<T>(native: () => T): T {
  try {
    return native();
  } catch (error) {
    if (error instanceof GhostwireError) throw error;
    const { code, message } = error as Error & { code?: string };
    throw new GhostwireError(isOurs(code) ? code : 'ERR_SERVER', message, {}, { cause: error });
  }
}

const isOurs = (code: string | undefined): code is GhostwireErrorCode => code !== undefined && code in CATALOGUE;

function toNative({ revision, puts, removes, filters, views, recipients, urgent }: SyncBatch): NativeBatch {
  return {
    revision,
    ...(puts !== undefined && { puts: puts as SyncPut[] }),
    ...(removes !== undefined && { removes: toHandles(removes) }),
    ...(filters !== undefined && { filters: filters as (string | Uint8Array)[] }),
    ...(views !== undefined && {
      views: views.map((view) => ('drop' in view ? view : { ...view, add: toHandles(view.add ?? []), remove: toHandles(view.remove ?? []) })),
    }),
    ...(recipients !== undefined && { recipients: recipients as SyncRecipient[] }),
    ...(urgent !== undefined && { urgent }),
  };
}

/** A typed array would wrap what does not fit, and a wrong handle is another peer's. */
function toHandles(handles: Handles): Uint32Array {
  if (handles instanceof Uint32Array) return handles;
  const wrong = handles.find((handle) => !Number.isInteger(handle) || handle < 0 || handle > 0xffff_ffff);
  if (wrong !== undefined) throw new GhostwireError('ERR_SYNC_BATCH', `a handle must be an integer from 0 to 4294967295, not ${wrong}`);
  return Uint32Array.from(handles);
}
