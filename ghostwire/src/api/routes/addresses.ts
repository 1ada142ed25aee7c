// /v1/addresses: who has one.

import type { Domain } from '../../domain.js';
import type { Peer } from '../../peers/peer.js';
import { requireAdmin } from '../auth.js';
import type { Routes } from '../rest.js';
import * as schemas from '../schemas.js';
import { iso } from './shared.js';

export function addressRoutes(app: Routes, { whois, adminKeys }: Domain): void {
  app.get(
    '/v1/addresses/:address',
    {
      onRequest: requireAdmin(adminKeys),
      schema: {
        summary: 'Who has an address: a peer, nobody, or those behind a router',
        security: [{ admin: [] }],
        params: schemas.AddressParam,
        response: { 200: schemas.WhoHas, '4xx': schemas.ErrorResponse, '5xx': schemas.ErrorResponse },
      },
    },
    (request): schemas.WhoHasBody => {
      const { address, state, peer, preauthKey, until, pool, routes } = whois.look(request.params.address);
      return {
        address,
        state,
        peer: peer === undefined ? null : named(peer),
        preauthKey: preauthKey ?? null,
        restsUntil: iso(until ?? null),
        pool: pool ?? null,
        routes: routes.map(({ prefix, primary, routers }) => ({ prefix, primary: named(primary), routers: routers.map(named) })),
      };
    },
  );
}

const named = ({ id, record }: Peer): { id: string; name: string } => ({ id, name: record.name });
