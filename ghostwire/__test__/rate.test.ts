// How often a peer may change what it says of itself.

import test from 'ava';
import fc from 'fast-check';
import { RateLimit } from '../src/api/rate.js';
import { GhostwireError } from '../src/errors.js';

test('never more than the burst and one for each interval, for each by itself', (t) => {
  fc.assert(
    fc.property(fc.array(fc.record({ who: fc.constantFrom('a', 'b'), after: fc.nat(400) }), { maxLength: 80 }), (asked) => {
      const rate = { burst: 3, every: 100 };
      const limit = new RateLimit(rate);
      // The plain one: tokens that fill up.
      const plain = new Map([['a', { tokens: 3, at: 0 }], ['b', { tokens: 3, at: 0 }]]);
      let now = 0;
      for (const { who, after } of asked) {
        now += after;
        const bucket = plain.get(who)!;
        bucket.tokens = Math.min(3, bucket.tokens + (now - bucket.at) / 100);
        bucket.at = now;
        // Of halves of a token both may be right, by rounding.
        const expected = bucket.tokens >= 1 - 1e-9;
        if (expected) {
          bucket.tokens -= 1;
          t.notThrows(() => limit.take(who, 'x', now));
        } else {
          const error = t.throws(() => limit.take(who, 'x', now), { instanceOf: GhostwireError });
          t.is(error.code, 'ERR_RATE_LIMITED');
          t.true(Math.abs(Number(error.details['retryAfterMs']) - (1 - bucket.tokens) * 100) <= 1);
        }
      }
    }),
  );
});

test('only those who ask are remembered, and not for long', (t) => {
  const limit = new RateLimit({ burst: 2, every: 10 });
  for (let n = 0; n < 100_000; n += 1) limit.take(`p${n}`, 'x', n);
  t.true(limit.size <= 2_048, `${limit.size}`);
});
