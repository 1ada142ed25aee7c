// /v1/peers: admins look after machines here; what machines say themselves is in self.ts.

import type { Domain } from '../../domain.js';
import type { Peer } from '../../peers/peer.js';
import { requireAdmin } from '../auth.js';
import type { Routes } from '../rest.js';
import * as schemas from '../schemas.js';
import { peerBody } from './shared.js';

export function peerRoutes(app: Routes, { adminKeys, peers, directory, topology, explainer }: Domain): void {
  const admin = { onRequest: requireAdmin(adminKeys) };
  const errors = { '4xx': schemas.ErrorResponse, '5xx': schemas.ErrorResponse };
  const security = [{ admin: [] }];
  const shown = (peer: Peer): schemas.PeerBody => peerBody(peer, topology.primaryRoutes(peer));

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
