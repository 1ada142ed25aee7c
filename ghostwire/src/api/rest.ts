// The REST API: translates HTTP to calls of the domain and back, and decides nothing.

import Fastify, { type FastifyInstance } from 'fastify';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { Domain } from '../domain.js';
import { GhostwireError } from '../errors.js';
import type { Log } from '../log.js';
import type { Peer } from '../peers/peer.js';
import { clientErrorHandler, errorHandler } from './errors.js';
import { collectOpenApi } from './openapi.js';
import { addressRoutes } from './routes/addresses.js';
import { keyRoutes } from './routes/keys.js';
import { peerRoutes } from './routes/peers.js';
import { policyRoutes } from './routes/policy.js';
import { questionRoutes } from './routes/questions.js';
import { ruleRoutes } from './routes/rules.js';
import { selfRoutes } from './routes/self.js';

/** What a peer needs to follow its netmap. */
export interface Connection {
  readonly url: string;
  /** Good for one connection; null when too many are outstanding. */
  readonly token: string | null;
  readonly expiresAt: string | null;
  /** host:port of the STUN responder. */
  readonly stun: string | null;
}

export interface RestOptions {
  readonly domain: Domain;
  readonly log: Log;
  readonly version: string;
  /** Issues a connection token for the sync port. `host` is the name by which the caller reached this server. */
  readonly connect: (peer: Peer, host: string) => Connection;
  /** Told of every answer: its route, status and seconds. */
  readonly observe?: (method: string, route: string, status: number, seconds: number) => void;
  /** Told of every peer that changes too often what it says of itself. */
  readonly limited?: () => void;
  /** Requests are turned away until this is true; default always. */
  readonly ready?: () => boolean;
  /** Serves TLS 1.3 with it, PEM; plain without. */
  readonly certificate?: { readonly chain: string; readonly key: string };
  /** Milliseconds for a request to arrive completely; default 10,000. */
  readonly requestTimeout?: number;
}

export type Rest = FastifyInstance;

/** Typed by the schemas of each route. */
export type Routes = ReturnType<typeof typed>;
const typed = (app: FastifyInstance) => app.withTypeProvider<TypeBoxTypeProvider>();

/** Bytes of a body; the policy has a limit of its own. */
const BODY_LIMIT = 32 * 1024;
/** Milliseconds after which a connection without traffic is closed, whatever it is doing. */
const CONNECTION_TIMEOUT = 120_000;
/** Longer than proxies keep theirs (60 s), so that they and not we decide to close. */
const KEEP_ALIVE = 72_000;

export function createRest(options: RestOptions): Rest {
  const { domain, log, version, observe, certificate, ready = () => true, requestTimeout = 10_000 } = options;
  const logger = log('ghostwire::api');
  const onError = errorHandler(logger);
  let closing = false;

  const http = {
    headersTimeout: requestTimeout,
    connectionsCheckingInterval: Math.min(requestTimeout, 1_000),
    maxHeaderSize: 16 * 1024,
  };
  const tls = certificate && { cert: certificate.chain, key: certificate.key, minVersion: 'TLSv1.3', handshakeTimeout: requestTimeout };
  // One type for both: nothing here looks at the socket.
  const transport = (tls === undefined ? { http } : { https: { ...http, ...tls } }) as { http: typeof http };
  const app = Fastify({
    ...transport,
    logger: false,
    bodyLimit: BODY_LIMIT,
    requestTimeout,
    connectionTimeout: CONNECTION_TIMEOUT,
    keepAliveTimeout: KEEP_ALIVE,
    exposeHeadRoutes: false,
    forceCloseConnections: 'idle',
    return503OnClosing: false, // in its own shape; ours is below
    routerOptions: { maxParamLength: 64 },
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false, useDefaults: false, allErrors: false } },
    clientErrorHandler,
    frameworkErrors: onError,
  });

  app.setErrorHandler(onError);
  app.setSchemaErrorFormatter((errors, dataVar) => Object.assign(new Error('invalid'), { validation: errors, validationContext: dataVar }));
  app.addHook('onRequest', (_request, _reply, done) => {
    if (closing) done(new GhostwireError('ERR_SHUTTING_DOWN', 'the server is stopping'));
    else if (!ready()) done(new GhostwireError('ERR_STARTING', 'the server is starting'));
    else done();
  });
  // A connection becomes idle when its last answer is out; closing waits for that and for nothing more.
  let sweep: NodeJS.Timeout | undefined;
  app.addHook('preClose', (done) => {
    closing = true;
    sweep = setInterval(() => app.server.closeIdleConnections(), 20);
    done();
  });
  app.addHook('onClose', (_app, done) => {
    clearInterval(sweep);
    done();
  });
  if (observe !== undefined || logger.isLevelEnabled('debug')) {
    app.addHook('onResponse', (request, reply, done) => {
      const route = request.routeOptions.url ?? 'unknown';
      observe?.(request.method, route, reply.statusCode, reply.elapsedTime / 1_000);
      logger.debug({ method: request.method, route, status: reply.statusCode, ms: reply.elapsedTime }, 'answered');
      done();
    });
  }

  const openapi = collectOpenApi(version);
  app.addHook('onRoute', openapi.add);
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0] ?? '';
    const allowed = allowedMethods(openapi.methods, path);
    if (allowed.length === 0) throw new GhostwireError('ERR_NOT_FOUND', `no route is at ${path.slice(0, 200)}`);
    void reply.header('allow', allowed.join(', '));
    throw new GhostwireError('ERR_METHOD_NOT_ALLOWED', `${path} does not take ${request.method}`, { allowed });
  });

  const routes = typed(app);
  selfRoutes(routes, options);
  peerRoutes(routes, domain);
  addressRoutes(routes, domain);
  keyRoutes(routes, domain);
  policyRoutes(routes, domain);
  questionRoutes(routes, domain);
  ruleRoutes(routes, domain);
  routes.get('/openapi.json', { schema: { summary: 'This document' } }, () => openapi.document());
  return app;
}

/** The methods of the route that this path would match. Only asked when none matched, so it may be slow. */
function allowedMethods(routes: ReadonlyMap<string, readonly string[]>, path: string): string[] {
  const parts = path.split('/');
  const allowed = new Set<string>();
  for (const [url, methods] of routes) {
    const pattern = url.split('/');
    if (pattern.length !== parts.length || !pattern.every((part, index) => part.startsWith(':') || part === parts[index])) continue;
    for (const method of methods) allowed.add(method);
  }
  return [...allowed].sort();
}
