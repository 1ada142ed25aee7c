// Who is asking: admin keys and peer tokens, both as bearer tokens.

import type { FastifyRequest } from 'fastify';
import { GhostwireError } from '../errors.js';
import type { AdminKeys } from '../keys/admin.js';
import type { Directory } from '../peers/directory.js';
import type { Peer } from '../peers/peer.js';

/** @throws GhostwireError ERR_UNAUTHORIZED */
function bearer({ headers }: FastifyRequest): string {
  const [scheme, token] = headers.authorization?.split(' ', 2) ?? [];
  if (scheme?.toLowerCase() !== 'bearer' || token === undefined || token.length > 256) {
    throw new GhostwireError('ERR_UNAUTHORIZED', 'the Authorization header must be: Bearer <key>');
  }
  return token;
}

/** A hook that lets only admins pass. */
export const requireAdmin =
  (keys: AdminKeys) =>
  async (request: FastifyRequest): Promise<void> => {
    if (!keys.accepts(bearer(request))) throw new GhostwireError('ERR_UNAUTHORIZED', 'the bearer token is not a working admin key');
  };

/** The id of the admin key that is asking; a hook of the route has let it pass. */
export const askingAdmin = (keys: AdminKeys, request: FastifyRequest): string | null => keys.idOf(bearer(request)) ?? null;

/** The peer that is asking. @throws GhostwireError ERR_UNAUTHORIZED */
export function askingPeer(directory: Directory, request: FastifyRequest): Peer {
  const peer = directory.withToken(bearer(request));
  if (peer === undefined) throw new GhostwireError('ERR_UNAUTHORIZED', 'the bearer token is not the token of a registered peer');
  return peer;
}
