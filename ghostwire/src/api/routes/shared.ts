// What several routes read and write in the same way.

import { GhostwireError } from '../../errors.js';
import type { Peer } from '../../peers/peer.js';
import type { PeerBody } from '../schemas.js';

/** The number in If-Match; undefined when anything may be replaced. @throws GhostwireError ERR_VALIDATION */
export function expected(header: string | undefined): number | undefined {
  if (header === undefined || header === '*') return undefined;
  const digits = /^"?(\d{1,15})"?$/.exec(header)?.[1];
  if (digits === undefined)
    throw new GhostwireError('ERR_VALIDATION', 'If-Match must be the ETag of an earlier answer', { path: 'If-Match' });
  return Number(digits);
}

export const iso = (time: number | null): string | null => (time === null ? null : new Date(time).toISOString());

/** @throws GhostwireError ERR_VALIDATION for a time that has passed: such a thing could never be used */
export function future(text: string | null | undefined): number | null {
  if (text === null || text === undefined) return null;
  const time = Date.parse(text);
  if (!(time > Date.now())) throw new GhostwireError('ERR_VALIDATION', `expiresAt ${text} is not in the future`, { path: 'expiresAt' });
  return time;
}

/** Field by field, so that nothing is shown that was not meant to be. */
export function peerBody({ id, revision, record, endpoints }: Peer, primaryRoutes: readonly string[]): PeerBody {
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
