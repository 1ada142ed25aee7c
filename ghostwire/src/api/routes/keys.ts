// /v1/preauth-keys and /v1/admin-keys: what lets machines and admins in.

import type { Domain } from '../../domain.js';
import type { AdminKey } from '../../keys/admin.js';
import { stateOf } from '../../keys/keyring.js';
import type { PreauthKey } from '../../keys/preauth.js';
import { checkTags, checkUser } from '../../peers/peer.js';
import { requireAdmin } from '../auth.js';
import type { Routes } from '../rest.js';
import * as schemas from '../schemas.js';
import { future, iso } from './shared.js';

export function keyRoutes(app: Routes, { adminKeys, preauthKeys }: Domain): void {
  const admin = { onRequest: requireAdmin(adminKeys) };
  const errors = { '4xx': schemas.ErrorResponse, '5xx': schemas.ErrorResponse };
  const security = [{ admin: [] }];

  app.post(
    '/v1/preauth-keys',
    {
      ...admin,
      schema: {
        summary: 'Make a pre-auth key',
        security,
        body: schemas.NewPreauthKey,
        response: { 201: schemas.CreatedPreauthKey, ...errors },
      },
    },
    async (request, reply) => {
      const { description = '', expiresAt, maxUses = 1, tags = [], user = null, ipv4 = null } = request.body;
      const { key, text } = await preauthKeys.create({
        description,
        expiresAt: future(expiresAt),
        maxUses,
        tags: checkTags(tags, 'tags'),
        user: user === null ? null : checkUser(user, 'user'),
        ipv4,
      });
      void reply.code(201).header('cache-control', 'no-store');
      return { ...presentPreauth(key), key: text };
    },
  );
  app.get(
    '/v1/preauth-keys',
    { ...admin, schema: { summary: 'Pre-auth keys, the newest first', security, response: { 200: schemas.PreauthKeyList, ...errors } } },
    () => ({
      keys: preauthKeys.list().map(presentPreauth),
    }),
  );
  app.delete(
    '/v1/preauth-keys/:id',
    {
      ...admin,
      schema: {
        summary: 'Revoke a pre-auth key; peers that used it stay',
        security,
        params: schemas.Id,
        response: { 200: schemas.PreauthKey, ...errors },
      },
    },
    async (request) => presentPreauth(await preauthKeys.revoke(request.params.id)),
  );

  app.post(
    '/v1/admin-keys',
    {
      ...admin,
      schema: { summary: 'Make an admin key', security, body: schemas.NewAdminKey, response: { 201: schemas.CreatedAdminKey, ...errors } },
    },
    async (request, reply) => {
      const { description = '', expiresAt } = request.body;
      const { key, text } = await adminKeys.create({ description, expiresAt: future(expiresAt) });
      void reply.code(201).header('cache-control', 'no-store');
      return { ...presentAdmin(key), key: text };
    },
  );
  app.get(
    '/v1/admin-keys',
    { ...admin, schema: { summary: 'Admin keys, the newest first', security, response: { 200: schemas.AdminKeyList, ...errors } } },
    () => ({
      keys: adminKeys.list().map(presentAdmin),
    }),
  );
  app.delete(
    '/v1/admin-keys/:id',
    { ...admin, schema: { summary: 'Revoke an admin key', security, params: schemas.Id, response: { 200: schemas.AdminKey, ...errors } } },
    async (request) => presentAdmin(await adminKeys.revoke(request.params.id)),
  );
}

function presentAdmin({ id, record }: AdminKey) {
  const { description, createdAt, expiresAt, revokedAt } = record;
  const state = stateOf(record, Date.now());
  return { id, description, state, createdAt: new Date(createdAt).toISOString(), expiresAt: iso(expiresAt), revokedAt: iso(revokedAt) };
}

function presentPreauth(key: PreauthKey) {
  const { maxUses, tags, user, ipv4 = null } = key.record;
  const shown = presentAdmin(key);
  const usedUp = shown.state === 'active' && maxUses !== null && key.uses >= maxUses;
  return { ...shown, state: usedUp ? ('used-up' as const) : shown.state, maxUses, uses: key.uses, tags, user, ipv4 };
}
