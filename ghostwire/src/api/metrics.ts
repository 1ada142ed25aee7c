// The metrics port: /metrics for Prometheus, /healthz and /readyz for whoever restarts or routes.

import { createServer, type Server } from 'node:http';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Database } from 'zqlite';

/** Numbers by name, nested as the source likes; anything else in it is passed over. */
export type Snapshot = Readonly<Record<string, unknown>>;

export interface MetricsSources {
  /** Adds the database's own metrics; undone when the database is about to close. */
  readonly database: Pick<Database, 'registerPromClient'>;
  /** Read at every scrape; becomes `ghostwire_sync_<path>`. */
  readonly sync: () => Snapshot;
  readonly peers: () => number;
  readonly resting: () => number;
  readonly classes: () => number;
  readonly revision: () => number;
  /** Why the server is not ready; undefined when it is. */
  readonly notReady: () => string | undefined;
}

export interface Metrics {
  readonly registry: Registry;
  readonly observe: (method: string, route: string, status: number, seconds: number) => void;
  /** Counts a peer that was turned away because it changed too often what it says of itself. */
  readonly limited: () => void;
  readonly server: Server;
  /** Tells no more of the database. */
  readonly withoutDatabase: () => void;
}

/** Seconds; the first bounds are around one fsync. */
const BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5];

export function createMetrics(sources: MetricsSources): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const requests = new Counter({
    name: 'ghostwire_http_requests_total',
    help: 'Requests answered.',
    labelNames: ['method', 'route', 'status'],
    registers: [registry],
  });
  const durations = new Histogram({
    name: 'ghostwire_http_request_seconds',
    help: 'From the first byte of a request to its answer.',
    labelNames: ['method', 'route'],
    buckets: BUCKETS,
    registers: [registry],
  });
  const limited = new Counter({
    name: 'ghostwire_peer_updates_limited_total',
    help: 'Changes that peers wanted to make of themselves and that came too often.',
    registers: [registry],
  });
  const withoutDatabase = sources.database.registerPromClient(registry);
  gauge(registry, 'ghostwire_peers', 'Registered peers.', sources.peers);
  gauge(registry, 'ghostwire_addresses_resting', 'Addresses in quarantine after the peer that had them.', sources.resting);
  gauge(registry, 'ghostwire_access_classes', 'Classes of peers that the policy can tell apart.', sources.classes);
  gauge(registry, 'ghostwire_journal_revision', 'The last journal revision applied and published.', sources.revision);

  const server = createServer((request, response) => {
    const path = request.url?.split('?', 1)[0];
    const answer = (status: number, type: string, body: string): void => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body);
    };
    const problem = path === '/readyz' ? sources.notReady() : undefined;
    if (request.method !== 'GET' && request.method !== 'HEAD') answer(405, 'text/plain', 'only GET\n');
    else if (path === '/healthz') answer(200, 'text/plain', 'ok\n');
    else if (path === '/readyz') answer(problem === undefined ? 200 : 503, 'text/plain', `${problem ?? 'ready'}\n`);
    else if (path !== '/metrics') answer(404, 'text/plain', 'see /metrics, /healthz and /readyz\n');
    else {
      registry.metrics().then(
        (text) => answer(200, registry.contentType, text + expose('ghostwire_sync', sources.sync())),
        (error: unknown) => answer(500, 'text/plain', `${String(error)}\n`),
      );
    }
  });
  server.requestTimeout = 10_000;
  server.headersTimeout = 10_000;

  return {
    registry,
    server,
    withoutDatabase,
    observe: (method, route, status, seconds) => {
      requests.inc({ method, route, status });
      durations.observe({ method, route }, seconds);
    },
    limited: () => limited.inc(),
  };
}

function gauge(registry: Registry, name: string, help: string, read: () => number): void {
  registry.registerMetric(
    new Gauge({
      name,
      help,
      registers: [],
      collect() {
        this.set(read());
      },
    }),
  );
}

/** Prometheus text for a snapshot of another component: its names, in snake case, are the metrics' names. */
function expose(prefix: string, snapshot: Snapshot): string {
  let text = '';
  for (const [name, value] of Object.entries(snapshot)) {
    const full = `${prefix}_${name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replaceAll(/[^a-z0-9_]/g, '_')}`;
    if (typeof value === 'number' || typeof value === 'bigint') text += `# TYPE ${full} untyped\n${full} ${value}\n`;
    else if (typeof value === 'boolean') text += `# TYPE ${full} untyped\n${full} ${value ? 1 : 0}\n`;
    else if (typeof value === 'object' && value !== null && !Array.isArray(value)) text += expose(full, value as Snapshot);
  }
  return text;
}
