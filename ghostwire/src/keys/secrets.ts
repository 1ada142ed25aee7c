// Random ids, secrets, and the text of keys: `gw_<kind>_<id>_<secret>`.
//
// Only the SHA-256 of a secret is stored. Secrets are 160 random bits, so a fast hash is enough: there is nothing to guess.

import { hash, randomFillSync, timingSafeEqual } from 'node:crypto';

export type KeyKind = 'admin' | 'preauth' | 'peer';

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';

/** RFC 4648 base32 in lower case, for a multiple of five bytes (so there is no padding). */
function base32(bytes: Uint8Array): string {
  let text = '';
  for (let index = 0; index < bytes.length; index += 5) {
    // 40 bits: too many for bitwise operators, few enough for a double.
    let bits = 0;
    for (let offset = 0; offset < 5; offset += 1) bits = bits * 256 + (bytes[index + offset] ?? 0);
    const high = Math.floor(bits / 2 ** 20);
    const low = bits % 2 ** 20;
    for (const half of [high, low]) {
      text +=
        ALPHABET.charAt(half >>> 15) +
        ALPHABET.charAt((half >>> 10) & 31) +
        ALPHABET.charAt((half >>> 5) & 31) +
        ALPHABET.charAt(half & 31);
    }
  }
  return text;
}

/** A call for random bytes costs microseconds however few they are, so many are fetched at once. No byte is used twice. */
const pool = Buffer.alloc(8_000);
let used = pool.length;

/** @param length a divisor of the pool's length */
function random(length: 10 | 20): Uint8Array {
  if (used + length > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += length;
  return pool.subarray(used - length, used);
}

/** 80 random bits as 16 characters. */
export const randomId = (): string => base32(random(10));

/** A new key: `text` is shown once, `id` and `hash` are kept. */
export interface MintedKey {
  readonly id: string;
  readonly text: string;
  readonly hash: string;
}

export function mintKey(kind: KeyKind): MintedKey {
  const id = randomId();
  const secret = base32(random(20));
  return { id, text: `gw_${kind}_${id}_${secret}`, hash: hash('sha256', secret, 'base64url') };
}

export interface ParsedKey {
  readonly id: string;
  readonly secret: string;
}

const FORM = /^gw_(admin|preauth|peer)_([a-z2-7]{16})_([a-z2-7]{32})$/;

/** Undefined when the text is not a key of this kind. */
export function parseKey(kind: KeyKind, text: string): ParsedKey | undefined {
  const match = FORM.exec(text);
  return match?.[1] === kind ? { id: match[2] ?? '', secret: match[3] ?? '' } : undefined;
}

/** Whether the secret has this hash (base64url), in constant time. */
export function matches(secret: string, stored: string): boolean {
  // Both are 43 characters of text. Comparing text is comparing bytes, and spares decoding.
  const given = Buffer.from(hash('sha256', secret, 'base64url'), 'latin1');
  const wanted = Buffer.from(stored, 'latin1');
  return wanted.length === given.length && timingSafeEqual(wanted, given);
}
