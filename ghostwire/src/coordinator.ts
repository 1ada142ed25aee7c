// A running coordinator: database, journal, domain, sync, REST and metrics, started in this order and stopped in the other.

import type { Server } from 'node:http';
import type { Server as SecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { AclEngine, Database, type Limits } from 'zqlite';
import { createMetrics } from './api/metrics.js';
import { createRest, type Connection } from './api/rest.js';
import type { Config } from './config.js';
import { createDomain, type Domain } from './domain.js';
import { GhostwireError, isCoded } from './errors.js';
import { SqliteJournal } from './journal/sqlite.js';
import { makeFirstKeys, type FirstKeys } from './keys/first.js';
import type { Log } from './log.js';
import type { Peer } from './peers/peer.js';
import { selfSigned, StunServer, SyncServer } from './sync.js';
import { readCertificate, tlsFiles, watchCertificate } from './tls.js';

export interface CoordinatorOptions {
  readonly config: Config;
  readonly log: Log;
  readonly version: string;
  /** Told once when the coordinator can no longer answer truthfully and must be closed and started again. */
  readonly onFailure: (error: unknown) => void;
}

export interface Coordinator {
  readonly domain: Domain;
  /** Where it is reached. */
  readonly urls: { readonly api: string; readonly metrics: string; readonly sync: string };
  /** Of the certificate's key; undefined when plain text is served. */
  readonly fingerprint: string | undefined;
  /** Only on the very first start; shown once. */
  readonly firstKeys: FirstKeys | undefined;
  /** Takes no new work, ends what is under way within `server.shutdown_timeout`, closes everything. Idempotent. */
  close(): Promise<void>;
}

/** History that resuming watchers may ask for; older superseded values are forgotten. */
const KEEP = { keepRevisions: 10_000, maxAge: 86_400_000 };
const COMPACT_EVERY = 600_000;
/** Addresses that have rested are free at once; this is for their keys in the journal. */
const SWEEP_EVERY = 60_000;

/**
 * @throws ZqliteError for a database that cannot be used; GhostwireError ERR_PORT_TAKEN, ERR_LISTEN, ERR_JOURNAL_FORMAT
 */
export async function startCoordinator({ config, log, version, onFailure }: CoordinatorOptions): Promise<Coordinator> {
  const { server, network, addresses } = config;
  const logger = log('ghostwire');
  /** Undone in the opposite order, by `close` or by a start that fails half way. */
  const stops: (() => unknown)[] = [];
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => (closing ??= stopAll(stops.reverse()));
  const repeat = (every: number, complaint: string, work: () => Promise<unknown>): void => {
    const timer = setInterval(() => void work().catch((error: unknown) => logger.warn({ err: error }, complaint)), every);
    stops.push(() => clearInterval(timer));
  };

  try {
    const files = tlsFiles(config, selfSigned);
    const tls = files && readCertificate(files);
    const db = await openDatabase(config);
    stops.push(() => db.close());
    const journal = await SqliteJournal.open(db);
    stops.push(() => journal.close());

    // The ports first: a start that fails because one is taken should fail before anything else happens.
    let ready = false;
    let sync: SyncServer | undefined;
    let stun: StunServer | undefined;
    const secure = tls !== undefined;
    const domain = createDomain({
      journal,
      network,
      addresses,
      log,
      engine: new AclEngine(),
      scratchEngine: () => new AclEngine(),
      publish: (batch) => sync?.publish(batch),
    });
    const { replica, adminKeys, preauthKeys, directory, topology, presence } = domain;
    stops.push(() => presence.stop());

    const metrics = createMetrics({
      database: db,
      sync: () => ({ ...sync?.metrics() }),
      peers: () => directory.size,
      resting: () => domain.addresses.resting,
      classes: () => topology.classes,
      revision: () => replica.revision,
      notReady: () =>
        closing !== undefined ? 'stopping' : !ready ? 'starting' : replica.following ? undefined : 'not following the journal',
    });
    stops.push(metrics.withoutDatabase);
    const metricsPort = await listen(metrics.server, server.host, server.metrics_port, 'metrics_port');
    // The last one down, so that a probe sees what happens meanwhile.
    stops.unshift(() => closeServer(metrics.server));

    const rest = createRest({
      domain,
      log,
      version,
      observe: metrics.observe,
      limited: metrics.limited,
      ready: () => ready,
      ...(tls && { certificate: tls.certificate }),
      connect: (peer, asked) => {
        const name = isWildcard(server.host) ? asked || hostname() : server.host;
        const url = server.public_sync_url || syncUrl(name, sync?.port, secure);
        const reached = URL.canParse(server.public_sync_url) ? new URL(server.public_sync_url).hostname : name;
        return connection(sync, { url, stun: stun && `${inUrl(reached)}:${stun.port}` }, server.connection_token_lifetime, peer);
      },
    });
    stops.push(() => rest.close());
    const apiPort = await rest.listen({ host: server.host, port: server.port }).then(
      () => (rest.server.address() as AddressInfo).port,
      (error: unknown) => {
        throw listenError(error, server.host, server.port, 'port');
      },
    );

    const certificate = tls && { certificate: tls.certificate };
    sync = await SyncServer.start({ host: server.host, port: server.sync_port, epoch: journal.epoch, ...certificate });
    stops.push(() => sync?.stop());
    stops.push(sync.onEvents((events) => presence.take(events)));
    stun = await startStun(server, sync.port);
    stops.push(() => stun?.stop());
    if (files !== undefined) {
      const use = ({ chain, key }: { chain: string; key: string }): void => {
        sync?.changeCertificate({ chain, key });
        (rest.server as unknown as SecureServer).setSecureContext({ cert: chain, key, minVersion: 'TLSv1.3' });
      };
      stops.push(watchCertificate(files, logger, use));
    }

    await replica.start((error) => {
      logger.fatal({ err: error }, 'cannot follow the journal');
      onFailure(error);
    });
    stops.push(() => replica.stop());
    // Last, so that a start which fails has used up no keys.
    const firstKeys = await makeFirstKeys(journal, replica, adminKeys, preauthKeys);

    repeat(COMPACT_EVERY, 'compaction failed', () => journal.compact(KEEP));
    repeat(SWEEP_EVERY, 'addresses that have rested could not be forgotten', () => preauthKeys.sweepAddresses());
    // Requests under way need all of the above until they are answered.
    stops.push(() => drain(rest.server, () => rest.close(), server.shutdown_timeout));
    ready = true;

    const host = isWildcard(server.host) ? hostname() : server.host;
    return {
      domain,
      urls: {
        api: server.public_url.replace(/\/+$/, '') || `${secure ? 'https' : 'http'}://${inUrl(host)}:${apiPort}`,
        metrics: `http://${inUrl(host)}:${metricsPort}`,
        sync: server.public_sync_url || syncUrl(host, sync.port, secure),
      },
      fingerprint: tls?.fingerprint,
      firstKeys,
      close,
    };
  } catch (error) {
    await close().catch((cause: unknown) => logger.error({ err: cause }, 'closing after a failed start failed too'));
    throw error;
  }
}

function openDatabase({ database, pool }: Config): Promise<Database> {
  return Database.open(database.path, {
    cacheSize: database.cache_size,
    parallelWrites: database.parallel_writes,
    wal: { limit: database.wal_limit, maxReadAge: database.max_read_age },
    pragmas: database.pragmas,
    limits: database.limits as Limits,
    attach: database.attach as Record<string, string>,
    extensions: database.extensions,
    pool: {
      minConnections: pool.min_connections,
      maxConnections: pool.max_connections,
      connectionTimeout: pool.connection_timeout,
      idleTimeout: pool.idle_timeout,
      maxLifetime: pool.max_lifetime,
      healthCheckInterval: pool.health_check_interval,
    },
  });
}

/** In order, all of them: one part that cannot stop is no reason to leave the others running. @throws the first failure */
async function stopAll(stops: readonly (() => unknown)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const stop of stops) {
    try {
      await stop();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

/** A registration must not fail because the table of outstanding tokens is full: the peer can ask again. */
function connection(
  sync: SyncServer | undefined,
  { url, stun }: { readonly url: string; readonly stun: string | undefined },
  lifetime: number,
  peer: Peer,
): Connection {
  const later = { url, stun: stun ?? null, token: null, expiresAt: null };
  try {
    const token = sync?.issueToken(peer.handle, lifetime);
    return token === undefined ? later : { ...later, token, expiresAt: new Date(Date.now() + lifetime).toISOString() };
  } catch (error) {
    if (isCoded(error) && error.code === 'ERR_SYNC_TOKENS_FULL') return later;
    throw error;
  }
}

/** Bound to every address of the machine: none of them is the one that a caller knows. */
const isWildcard = (host: string): boolean => host === '' || host === '0.0.0.0' || host === '::';

const inUrl = (host: string): string => (host.includes(':') && !host.startsWith('[') ? `[${host}]` : host);

const syncUrl = (host: string, port: number | undefined, secure: boolean): string =>
  `${secure ? 'wss' : 'ws'}://${inUrl(host)}:${port}/v1/sync`;

/** On its own port, or on the number of the sync port; if that one was any free one and this is not, on any free one too. */
async function startStun({ host, stun_port, sync_port }: Config['server'], syncPort: number): Promise<StunServer> {
  try {
    return await StunServer.start({ host, port: stun_port === 0 ? syncPort : stun_port });
  } catch (error) {
    if (stun_port !== 0 || sync_port !== 0) throw error;
    return StunServer.start({ host, port: 0 });
  }
}

function listen(server: Server, host: string, port: number, key: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(listenError(error, host, port, key)));
    server.listen(port, host, () => resolve((server.address() as AddressInfo).port));
  });
}

/** @param key the setting to change */
function listenError(error: unknown, host: string, port: number, key: string): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'EADDRINUSE')
    return new GhostwireError(
      'ERR_PORT_TAKEN',
      `server.${key}: another process listens on ${host}:${port}`,
      { key, host, port },
      { cause: error },
    );
  if (error instanceof Error && 'syscall' in error)
    return new GhostwireError(
      'ERR_LISTEN',
      `server.${key}: cannot listen on ${host}:${port}: ${error.message}`,
      { key, host, port },
      { cause: error },
    );
  return error;
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

/** Lets requests under way finish; those that take longer than `timeout` are cut. */
async function drain(server: Server, close: () => Promise<unknown>, timeout: number): Promise<void> {
  const cut = setTimeout(() => server.closeAllConnections(), timeout);
  await close();
  clearTimeout(cut);
}
