// What the journal holds of an address, at the key `addresses/v4/<ip>`.

import type { JsonValue } from '../journal/journal.js';

export const ADDRESSES = 'addresses/v4/';

export const addressPath = (ipv4: string): string => ADDRESSES + ipv4;

export type AddressRecord =
  /** The id of the peer that holds it. */
  | string
  /** Nobody holds it since then, milliseconds since 1970; it rests. */
  | { readonly releasedAt: number }
  /** It is kept for the machine that registers with the pre-auth key of this id. */
  | { readonly preauthKey: string };

/** Undefined for what a version to come may write. */
export function readAddress(value: JsonValue): AddressRecord | undefined {
  if (typeof value === 'string') return value;
  if (typeof value !== 'object' || value === null) return undefined;
  if ('releasedAt' in value && typeof value.releasedAt === 'number') return { releasedAt: value.releasedAt };
  if ('preauthKey' in value && typeof value.preauthKey === 'string') return { preauthKey: value.preauthKey };
  return undefined;
}
