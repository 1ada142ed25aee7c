// The two ends of a question about access: peers by id, name or address, and any other address.

import { parseAddress, unmapped, type Family } from '../addresses/ip.js';
import { GhostwireError } from '../errors.js';
import type { Directory } from '../peers/directory.js';
import type { Peer } from '../peers/peer.js';

/** A peer, or the text of an address that may or may not be a peer's. */
export type End = Peer | string;

/** @param path names the field in errors @throws GhostwireError ERR_PEER_NOT_FOUND when the text stands for nothing */
export function findEnd(directory: Directory, text: string, path: string): End {
  const peer = directory.get(text) ?? directory.named(text.toLowerCase());
  if (peer !== undefined) return peer;
  // As servers that speak both families log their callers.
  const address = unmapped(text) ?? text;
  if (familyOf(address) === undefined)
    throw new GhostwireError('ERR_PEER_NOT_FOUND', `${path}: ${JSON.stringify(text)} is no peer's id or name, and no address`, { path });
  return address;
}

/**
 * Two addresses that stand for the ends. A peer has one of either family: the one that the other side speaks.
 * @throws GhostwireError ERR_VALIDATION for addresses of two families
 */
export function sameFamily(from: End, to: End): { source: string; destination: string } {
  const family = familyOf(typeof from === 'string' ? from : typeof to === 'string' ? to : '') ?? 4;
  const address = (end: End): string => (typeof end === 'string' ? end : family === 4 ? end.record.ipv4 : end.record.ipv6);
  const [source, destination] = [address(from), address(to)];
  if (familyOf(source) !== familyOf(destination))
    throw new GhostwireError('ERR_VALIDATION', `src ${source} and dst ${destination} are of two address families`, { path: 'dst' });
  return { source, destination };
}

const familyOf = (text: string): Family | undefined => parseAddress(text)?.family;
