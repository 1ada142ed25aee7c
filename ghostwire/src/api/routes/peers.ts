// /v1/peers: machines register here, admins look after them.

import type { Peer } from '../../peers/peer.js';
import { askingPeer, requireAdmin } from '../auth.js';
import { RateLimit, type Rate } from '../rate.js';
import type { RestOptions, Routes } from '../rest.js';
import * as schemas from '../schemas.js';

/** What a peer says of itself costs a commit, or a message to everybody who sees it. */
const UPDATES: Rate = { burst: 20, every: 3_000 };

export function peerRoutes(app: Routes, { domain, connect, limited }: RestOptions): void {
  const { peers, directory, topology, explainer } = domain;
  const admin = { onRequest: requireAdmin(domain.adminKeys) };
  const errors = { '4xx': schemas.ErrorResponse, '5xx': schemas.ErrorResponse };
  const security = [{ admin: [] }];
  const updates = new RateLimit(UPDATES);
  const shown = (peer: Peer): schemas.PeerBody => present(peer, topology.primaryRoutes(peer));

  app.post(
    '/v1/peers/register',
    {
      schema: {
        summary: 'Join the network with a pre-auth key',
        body: schemas.Registration,
        response: { 201: schemas.Registered, ...errors },
      },
    },
    async (request, reply) => {
      const { peer, token } = await peers.register(request.body);
      void reply.code(201).header('cache-control', 'no-store');
      return { peer: shown(peer), token, sync: connect(peer, request.hostname) };
    },
  );

  app.post(
    '/v1/peers/self/connection-token',
    {
      schema: { summary: 'A token to follow the netmap with', security: [{ peer: [] }], response: { 200: schemas.Connection, ...errors } },
    },
    (request, reply) => {
      void reply.header('cache-control', 'no-store');
      return connect(askingPeer(directory, request), request.hostname);
    },
  );

  app.get(
    '/v1/peers/self',
    { schema: { summary: 'What the network knows of the asking peer', security: [{ peer: [] }], response: { 200: schemas.Peer, ...errors } } },
    (request) => shown(askingPeer(directory, request)),
  );

  app.patch(
    '/v1/peers/self',
    {
      schema: {
        summary: 'Say where this peer is reached, replace its WireGuard key, offer routes',
        security: [{ peer: [] }],
        body: schemas.SelfUpdate,
        response: { 200: schemas.Peer, ...errors },
      },
    },
    async (request) => {
      const { id } = askingPeer(directory, request);
      try {
        updates.take(id, 'PATCH /v1/peers/self');
      } catch (error) {
        limited?.();
        throw error;
      }
      return shown(await peers.updateSelf(id, request.body));
    },
  );

  app.delete(
    '/v1/peers/self',
    { schema: { summary: 'Leave the network', security: [{ peer: [] }], response: { 204: schemas.Nothing, ...errors } } },
    async (request, reply) => {
      await peers.delete(askingPeer(directory, request).id);
      return reply.code(204).send(null);
    },
  );

  app.get(
    '/v1/peers',
    {
      ...admin,
      schema: {
        summary: 'Peers, in the order of their ids',
        security,
        querystring: schemas.Page,
        response: { 200: schemas.PeerList, ...errors },
      },
    },
    async (request) => {
      const { after, limit } = request.query;
      const page = await peers.list({ limit: Number(limit ?? 100), ...(after === undefined ? {} : { after }) });
      return { peers: page.peers.map(shown), next: page.next ?? null };
    },
  );

  app.get(
    '/v1/peers/:id',
    { ...admin, schema: { summary: 'One peer', security, params: schemas.Id, response: { 200: schemas.Peer, ...errors } } },
    (request) => shown(peers.get(request.params.id)),
  );

  app.patch(
    '/v1/peers/:id',
    {
      ...admin,
      schema: {
        summary: 'Rename, tag, give an address, approve routes, replace metadata',
        security,
        params: schemas.Id,
        body: schemas.PeerUpdate,
        response: { 200: schemas.Peer, ...errors },
      },
    },
    async (request) => shown(await peers.update(request.params.id, request.body)),
  );

  app.delete(
    '/v1/peers/:id',
    {
      ...admin,
      schema: {
        summary: 'Revoke a peer: it loses its place at once',
        security,
        params: schemas.Id,
        response: { 204: schemas.Nothing, ...errors },
      },
    },
    async (request, reply) => {
      await peers.delete(request.params.id);
      return reply.code(204).send(null);
    },
  );

  app.get(
    '/v1/peers/:id/filter',
    {
      ...admin,
      schema: {
        summary: 'What a peer, and what it routes, may be sent: the rules in force without denies',
        security,
        params: schemas.Id,
        response: { 200: schemas.PacketFilter, ...errors },
      },
    },
    (request) => ({ rules: explainer.packetFilter(peers.get(request.params.id)) }),
  );

  app.get(
    '/v1/peers/:id/visible',
    {
      ...admin,
      schema: { summary: 'The peers that this one sees', security, params: schemas.Id, response: { 200: schemas.VisiblePeers, ...errors } },
    },
    (request) => {
      const visible = topology.visible(peers.get(request.params.id).handle).map((handle) => directory.atHandle(handle));
      return {
        peers: visible
          .filter((peer) => peer !== undefined)
          .map(({ id, record }) => ({ id, name: record.name, addresses: [record.ipv4, record.ipv6] }))
          .sort((a, b) => (a.name < b.name ? -1 : 1)),
      };
    },
  );
}

/** Field by field, so that nothing is shown that was not meant to be. */
function present({ id, revision, record, endpoints }: Peer, primaryRoutes: readonly string[]): schemas.PeerBody {
  return {
    id,
    name: record.name,
    hostname: record.hostname,
    user: record.user,
    tags: record.tags,
    addresses: [record.ipv4, record.ipv6],
    wireguardKey: record.wireguardKey,
    endpoints: [...endpoints],
    os: record.os,
    version: record.version,
    advertisedRoutes: record.advertisedRoutes,
    approvedRoutes: record.approvedRoutes,
    primaryRoutes: [...primaryRoutes],
    metadata: record.metadata,
    preauthKey: record.preauthKey,
    createdAt: new Date(record.createdAt).toISOString(),
    revision,
  };
}
