// How often somebody may do something: a token bucket each. In memory, and only while it is not full.

import { GhostwireError } from '../errors.js';

export interface Rate {
  /** How many at once, after a long pause. */
  readonly burst: number;
  /** Milliseconds from one to the next in the long run. */
  readonly every: number;
}

/** Full buckets are looked for when there are this many. */
const SWEEP_AT = 1_024;

export class RateLimit {
  readonly #rate: Rate;
  /** When each bucket is full again. */
  readonly #fullAt = new Map<string, number>();
  #sweepAt = SWEEP_AT;

  constructor(rate: Rate) {
    this.#rate = rate;
  }

  /** Buckets that are not full; for metrics and tests. */
  get size(): number {
    return this.#fullAt.size;
  }

  /** @throws GhostwireError ERR_RATE_LIMITED */
  take(who: string, what: string, now = performance.now()): void {
    const { burst, every } = this.#rate;
    const fullAt = Math.max(this.#fullAt.get(who) ?? 0, now) + every;
    const wait = fullAt - now - burst * every;
    if (wait > 0) {
      const retryAfterMs = Math.ceil(wait);
      throw new GhostwireError('ERR_RATE_LIMITED', `${what}: ${burst} at once and one every ${every / 1_000} s are taken; try again in ${retryAfterMs} ms`, { retryAfterMs });
    }
    if (this.#fullAt.size >= this.#sweepAt) {
      for (const [key, at] of this.#fullAt) if (at <= now) this.#fullAt.delete(key);
      this.#sweepAt = Math.max(SWEEP_AT, 2 * this.#fullAt.size);
    }
    this.#fullAt.set(who, fullAt);
  }
}
