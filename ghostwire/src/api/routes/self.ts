// /v1/peers/register and /v1/peers/self: machines join here, and say what is so with them.

import type { Peer } from '../../peers/peer.js';
import { askingPeer } from '../auth.js';
import { RateLimit, type Rate } from '../rate.js';
import type { RestOptions, Routes } from '../rest.js';
import * as schemas from '../schemas.js';
import { peerBody } from './shared.js';

/** What a peer says of itself costs a commit, or a message to everybody who sees it. */
const UPDATES: Rate = { burst: 20, every: 3_000 };

export function selfRoutes(app: Routes, { domain, connect, limited }: RestOptions): void {
  const { peers, directory, topology } = domain;
  const errors = { '4xx': schemas.ErrorResponse, '5xx': schemas.ErrorResponse };
  const updates = new RateLimit(UPDATES);
  const shown = (peer: Peer): schemas.PeerBody => peerBody(peer, topology.primaryRoutes(peer));

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
}
