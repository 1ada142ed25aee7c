// The laws that every journal keeps, each as a check that throws when it is broken.
//
// A law speaks only of its own matter: where another law's breach would disturb it, it looks away. So a breach is
// reported by its name, and `journal.broken.test.ts` can show for each law a journal that breaks exactly that one.

import assert from 'node:assert/strict';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { TestFn } from 'ava';
import fc from 'fast-check';
import { GhostwireError } from '../src/errors.js';
import type { GhostwireErrorCode } from '../src/errors.js';
import { COUNTERS, LIMITS } from '../src/journal/journal.js';
import type { Change, CommitResult, CompactOptions, Condition, Entry, Journal, JournalCommit, JournalEvent, JsonValue } from '../src/journal/journal.js';

/** A journal under test, fresh and empty. */
export interface Subject {
  readonly journal: Journal;
  /** Closes the journal and opens what it left behind. */
  reopen(): Promise<Journal>;
  /** The answer to the next change that is sent is lost; whether it is made before that is `made`. */
  readonly loseNextAnswer: (made: boolean) => void;
  dispose(): Promise<void>;
}

export type MakeSubject = () => Promise<Subject>;

export interface Law {
  readonly name: string;
  /** @throws when the law is broken */
  readonly check: (make: MakeSubject) => Promise<void>;
}

/** Random histories a law is tried on. */
const RUNS = Number(process.env['JOURNAL_RUNS'] ?? 12);

/** What should take no time has failed after this, ms. The short one is for what a broken journal never does. */
const PATIENCE = 5_000;
const SHORT = 1_500;

// --- Tools ---

async function using<T>(make: MakeSubject, use: (subject: Subject) => Promise<T>): Promise<T> {
  const subject = await make();
  try {
    return await use(subject);
  } finally {
    await subject.dispose();
  }
}

function within<T>(promise: Promise<T>, what: string, patience = PATIENCE): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing after ${patience} ms`)), patience);
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}

async function refusedWith(code: GhostwireErrorCode, what: string, call: () => Promise<unknown>): Promise<GhostwireError> {
  let answer: unknown;
  try {
    answer = await call();
  } catch (error) {
    assert(error instanceof GhostwireError, `${what}: ${String(error)}`);
    assert.equal(error.code, code, what);
    return error;
  }
  throw new assert.AssertionError({ message: `${what}: not refused but answered ${JSON.stringify(answer)}` });
}

function watch(journal: Journal, revision: number, options?: Parameters<Journal['watch']>[1]): AsyncIterator<JournalCommit> {
  return journal.watch({ epoch: journal.epoch, revision }, options)[Symbol.asyncIterator]();
}

async function next(iterator: AsyncIterator<JournalCommit>): Promise<JournalCommit> {
  const result = await within(iterator.next(), 'the next commit of a watch');
  assert(result.done !== true, 'a watch ended by itself');
  return result.value;
}

/** What a watch from `from` delivers until it has reached `to`. */
export async function follow(journal: Journal, from: number, to: number): Promise<JournalCommit[]> {
  const commits: JournalCommit[] = [];
  if (from >= to) return commits;
  const iterator = watch(journal, from);
  do commits.push(await next(iterator));
  while (commits.at(-1)!.revision < to);
  await iterator.return?.();
  return commits;
}

async function put(journal: Journal, key: string, value: JsonValue): Promise<void> {
  await journal.commit({ puts: [{ key, value }] });
}

type State = ReadonlyMap<string, JsonValue>;

function fold(before: State, commits: readonly JournalCommit[]): State {
  const after = new Map(before);
  for (const event of commits.flatMap(({ events }): readonly JournalEvent[] => events)) {
    if ('value' in event) after.set(event.key, event.value);
    else after.delete(event.key);
  }
  return after;
}

const toState = (entries: readonly Entry[]): State => new Map(entries.map(({ key, value }) => [key, value]));

async function state(journal: Journal, revision?: number): Promise<State> {
  return toState((await journal.list('', revision === undefined ? {} : { revision })).entries);
}

const sorted = (it: State): [string, JsonValue][] => [...it].toSorted(([a], [b]) => (a < b ? -1 : 1));

function eventsByRevision(commits: readonly JournalCommit[]): Map<number, JournalEvent[]> {
  const all = new Map<number, JournalEvent[]>();
  for (const { revision, events } of commits) all.set(revision, [...(all.get(revision) ?? []), ...events]);
  return all;
}

const contiguous = (from: number, revisions: readonly number[]): boolean => revisions.every((revision, i) => revision === from + i + 1);

const KEYS = ['a', 'a/1', 'a/2', 'b', 'peers/x', 'peers/y'] as const;

const changes: fc.Arbitrary<Change> = fc
  .record({
    puts: fc.uniqueArray(fc.record({ key: fc.constantFrom(...KEYS), value: fc.jsonValue({ maxDepth: 1 }) as fc.Arbitrary<JsonValue> }), {
      selector: ({ key }) => key,
      maxLength: 3,
    }),
    deletes: fc.uniqueArray(fc.constantFrom(...KEYS), { maxLength: 2 }),
    takes: fc.uniqueArray(
      fc.record({ counter: fc.constantFrom('c', 'd'), n: fc.integer({ min: 1, max: 3 }), limit: fc.integer({ min: 0, max: 20 }) }),
      { selector: ({ counter }) => counter, maxLength: 2 },
    ),
  })
  .map(({ puts, deletes, takes }) => ({ puts, takes, deletes: deletes.filter((key) => !puts.some((it) => it.key === key)) }))
  .filter(({ puts, deletes, takes }) => puts.length + deletes.length + takes.length > 0);

const histories = fc.array(changes, { minLength: 4, maxLength: 24 });

/** A string whose JSON text has so many bytes: two quotes, two bytes a letter. */
const text = (bytes: number): string => 'é'.repeat(Math.floor((bytes - 2) / 2));

const manyPuts = (count: number): Change => ({ puts: Array.from({ length: count }, (_, i) => ({ key: `many/${i}`, value: i })) });

const manyConditions = (count: number): Condition[] => Array.from({ length: count }, (_, i) => ({ key: `none/${i}`, absent: true }));

/** Commits a history by four clients at a time. */
async function commitAll(journal: Journal, history: readonly Change[]): Promise<void> {
  const queue = [...history];
  const client = async (): Promise<void> => {
    for (let change = queue.shift(); change !== undefined; change = queue.shift()) await journal.commit(change);
  };
  await Promise.all([client(), client(), client(), client()]);
}

/** Holds for every random history, committed to a fresh journal. */
async function forHistories(make: MakeSubject, check: (subject: Subject, history: readonly Change[]) => Promise<void>): Promise<void> {
  const property = fc.asyncProperty(histories, (history) =>
    using(make, async (subject) => {
      await commitAll(subject.journal, history);
      await check(subject, history);
    }),
  );
  await fc.assert(property, { numRuns: RUNS, includeErrorInReport: true });
}

// --- Laws ---

const law = (name: string, check: (make: MakeSubject) => Promise<void>): Law => ({ name, check });

export const laws: readonly Law[] = [
  law('a commit is made exactly if its conditions hold', async (make) => {
    type Wish = { key: (typeof KEYS)[number]; is: 'absent' | 'current' | 'old' };
    const wishes = fc.uniqueArray(fc.record<Wish>({ key: fc.constantFrom(...KEYS), is: fc.constantFrom('absent', 'current', 'old') }), {
      selector: ({ key }) => key,
      maxLength: 3,
    });
    const write = fc.record({ key: fc.constantFrom(...KEYS), remove: fc.boolean() });
    const steps = fc.array(fc.tuple(wishes, write), { minLength: 8, maxLength: 30 });
    const property = fc.asyncProperty(steps, (list) =>
      using(make, async ({ journal }) => {
        for (const [wished, { key, remove }] of list) {
          const now = new Map((await journal.list('')).entries.map((entry) => [entry.key, entry.revision]));
          const conditions = wished.map(({ key: on, is }): Condition => {
            if (is === 'absent') return { key: on, absent: true };
            return { key: on, revision: Math.max(1, (now.get(on) ?? 1) - (is === 'old' ? 1 : 0)) };
          });
          const failed = conditions.find((it) => ('absent' in it ? now.has(it.key) : now.get(it.key) !== it.revision));
          const result = await journal.commit({ conditions, ...(remove ? { deletes: [key] } : { puts: [{ key, value: 1 }] }) });
          assert.equal(result.status, failed === undefined ? 'committed' : 'conflict');
          if (result.status === 'conflict') assert.deepEqual(result.failed, failed, 'the condition named is not the first that failed');
        }
      }),
    );
    await fc.assert(property, { numRuns: RUNS, includeErrorInReport: true });

    // Read, add one, put on condition that nobody else did: no addition may be lost.
    await using(make, async ({ journal }) => {
      await put(journal, 'n', 0);
      let added = 0;
      const client = async (): Promise<void> => {
        for (let i = 0; i < 8; i += 1) {
          const [entry] = (await journal.list('n')).entries;
          await turn();
          const result = await journal.commit({
            conditions: [{ key: 'n', revision: entry!.revision }],
            puts: [{ key: 'n', value: Number(entry!.value) + 1 }],
          });
          if (result.status === 'committed') added += 1;
        }
      };
      await Promise.all(Array.from({ length: 16 }, client));
      assert.equal((await state(journal)).get('n'), added, 'an addition was lost');
    });
  }),

  law('revisions follow real time', async (make) => {
    await using(make, async ({ journal }) => {
      let acknowledged = 0;
      const made = new Map<number, string>();
      const client = async (_: unknown, name: number): Promise<void> => {
        for (let i = 0; i < 10; i += 1) {
          const floor = acknowledged;
          const key = `k/${name}/${i}`;
          const result = await journal.commit({ puts: [{ key, value: i }] });
          assert(result.status === 'committed');
          assert(result.revision > floor, `revision ${result.revision} for a commit that began after ${floor} was acknowledged`);
          assert(!made.has(result.revision), `revision ${result.revision} was given twice`);
          made.set(result.revision, key);
          acknowledged = Math.max(acknowledged, result.revision);
          if (name % 2 === 0) await turn();
        }
      };
      await Promise.all(Array.from({ length: 16 }, client));
      let at = 0;
      for (const commit of await follow(journal, 0, await journal.revision())) {
        assert(commit.at >= at, `revision ${commit.revision} is dated before the one before`);
        at = commit.at;
        if (made.has(commit.revision)) assert.equal(commit.events[0]?.key, made.get(commit.revision), 'the log has it at another revision');
      }
    });
  }),

  law('all events of a revision arrive together', async (make) => {
    await forHistories(make, async ({ journal }) => {
      const revisions = (await follow(journal, 0, await journal.revision())).map(({ revision }) => revision);
      assert.equal(new Set(revisions).size, revisions.length, `a revision arrived in parts: ${revisions.join(' ')}`);
    });
  }),

  law('a snapshot and the watch from it give the state', async (make) => {
    await forHistories(make, async ({ journal }) => {
      await put(journal, 'end', null); // one event, so that it does not matter if parts arrive one by one
      const head = await journal.revision();
      const log = await follow(journal, 0, head);
      const final = sorted(await state(journal));
      for (let revision = 0; revision <= head; revision += 1) {
        const rest = await follow(journal, revision, head);
        const all = [...log.filter((commit) => commit.revision <= revision), ...rest].map((commit) => commit.revision);
        if (!contiguous(0, [...new Set(all)])) continue; // another law's matter
        const then = await state(journal, revision);
        const folded = fold(new Map(), log.filter((commit) => commit.revision <= revision));
        assert.deepEqual(sorted(then), sorted(folded), `the list at ${revision} is not what the log led to`);
        assert.deepEqual(sorted(fold(then, rest)), final, `the list at ${revision} and the watch from there do not give the present`);
      }
    });
    // Who watches while it is committed sees the same as who reads it later.
    await forHistories(make, async ({ journal }, history) => {
      const from = await journal.revision();
      const live = watch(journal, from);
      await commitAll(journal, [...history, { puts: [{ key: 'end', value: null }] }]);
      const head = await journal.revision();
      const commits: JournalCommit[] = [];
      do commits.push(await next(live));
      while (commits.at(-1)!.revision < head);
      await live.return?.();
      const log = eventsByRevision(await follow(journal, from, head));
      for (const [revision, events] of eventsByRevision(commits)) {
        if (log.has(revision)) assert.deepEqual(events, log.get(revision), `the events of ${revision} as they were watched and as they are in the log`);
      }
    });
    // Two keys that always change together are never seen apart.
    await using(make, async ({ journal }) => {
      const writer = async (): Promise<void> => {
        for (let i = 0; i < 40; i += 1) {
          await journal.commit({ puts: ['x', 'y'].map((key) => ({ key: `pair/${key}`, value: i })) });
        }
      };
      const reader = async (): Promise<void> => {
        for (let i = 0; i < 40; i += 1) {
          const { entries } = await journal.list('pair/');
          assert(entries.length === 0 || (entries.length === 2 && entries[0]!.value === entries[1]!.value), 'half a commit was listed');
          await turn();
        }
      };
      await Promise.all([writer(), reader(), reader()]);
    });
  }),

  law('a watch has no gap and no repetition, from wherever it resumes', async (make) => {
    await forHistories(make, async ({ journal }, history) => {
      const head = await journal.revision();
      // Some watches begin before, some while, and some after more is committed.
      const starts = Array.from({ length: head + 1 }, (_, revision) => revision);
      const early = starts.filter((revision) => revision % 2 === 0).map((revision) => [revision, watch(journal, revision)] as const);
      const more = commitAll(journal, [...history, { puts: [{ key: 'end', value: null }] }]);
      const late = starts.filter((revision) => revision % 2 === 1).map((revision) => [revision, watch(journal, revision)] as const);
      await more;
      const end = await journal.revision();
      await Promise.all(
        [...early, ...late].map(async ([from, iterator]) => {
          const revisions: number[] = [];
          while ((revisions.at(-1) ?? from) < end) {
            const { revision } = await next(iterator);
            if (revision !== revisions.at(-1)) revisions.push(revision); // parts are another law's matter
          }
          await iterator.return?.();
          assert(contiguous(from, revisions), `a watch from ${from} delivered ${revisions.join(' ')}`);
        }),
      );
    });
  }),

  law('takes are evaluated in order and never pass the limit', async (make) => {
    await using(make, async ({ journal }) => {
      const limit = 100;
      const made: { n: number; value: number }[] = [];
      const client = async (_: unknown, name: number): Promise<void> => {
        for (let i = 0; i < 4; i += 1) {
          const n = 1 + ((name + i) % 3);
          const before = made.length;
          const result = await journal.commit({ takes: [{ counter: 'uses', n, limit }] });
          if (result.status === 'committed') {
            made.push({ n, value: result.taken[0]! });
          } else {
            assert.deepEqual(result, { status: 'conflict', failed: { counter: 'uses', n, limit } });
            const least = made.slice(0, before).reduce((sum, take) => sum + take.n, 0);
            assert(least + n > limit || made.length > before, `refused ${n} of ${limit} with ${least} taken`);
          }
        }
      };
      await Promise.all(Array.from({ length: 64 }, client));
      made.sort((a, b) => a.value - b.value);
      let value = 0;
      for (const take of made) assert.equal((value += take.n), take.value, 'a take did not add to the one before');
      assert(value <= limit, `${value} taken of ${limit}`);
      assert(value > limit - 3, `only ${value} of ${limit} could be taken`);
      assert.equal((await state(journal)).get(`${COUNTERS}uses`), value, 'the counter is not what was taken');

      // The first take that exceeds is named, and those before it are not kept.
      const fits = { counter: 'fits', n: 2, limit: 2 };
      const exceeds = { counter: 'exceeds', n: 2, limit: 1 };
      const both = await journal.commit({ takes: [fits, exceeds, { ...exceeds, counter: 'also' }] });
      assert.deepEqual(both, { status: 'conflict', failed: exceeds });
      const again = await journal.commit({ takes: [fits, { counter: 'other', n: 5, limit: 5 }] });
      assert(again.status === 'committed', 'a take of a refused change was kept');
      assert.deepEqual(again.taken, [2, 5]);
      // A deleted counter begins again.
      await journal.commit({ deletes: [`${COUNTERS}fits`] });
      const anew = await journal.commit({ takes: [fits] });
      assert(anew.status === 'committed');
      assert.deepEqual(anew.taken, [2]);
    });
  }),

  law('a conflict changes nothing', async (make) => {
    await using(make, async ({ journal }) => {
      await journal.commit({ puts: [{ key: 'a', value: 1 }], takes: [{ counter: 'c', n: 1, limit: 1 }] });
      const attempts: Change[] = [
        { takes: [{ counter: 'c', n: 1, limit: 1 }] },
        { takes: [{ counter: 'd', n: 1, limit: 1 }, { counter: 'c', n: 1, limit: 1 }], puts: [{ key: 'b', value: 2 }], deletes: ['a'] },
        { conditions: [{ key: 'a', absent: true }], puts: [{ key: 'a', value: 3 }] },
        { conditions: [{ key: 'z', revision: 1 }], puts: [{ key: 'z', value: 3 }], deletes: ['a'] },
      ];
      for (const attempt of attempts) {
        const revision = await journal.revision();
        const before = sorted(await state(journal));
        const result = await journal.commit(attempt);
        if (result.status !== 'conflict') continue; // another law's matter
        assert.deepEqual(sorted(await state(journal)), before, `changed by ${JSON.stringify(attempt)}`);
        assert.equal(await journal.revision(), revision, 'a conflict used up a revision');
      }
    });
  }),

  law('limits are enforced before anything is sent', async (make) => {
    await using(make, async ({ journal, loseNextAnswer }) => {
      const long = 'k'.repeat(LIMITS.keyLength);
      const half = (LIMITS.bytesPerCommit - 200) / 2;

      const largest: Change[] = [
        { puts: [{ key: long, value: 1 }] },
        { puts: [{ key: 'v', value: text(LIMITS.bytesPerValue) }] },
        { puts: [{ key: 'v', value: text(half) }, { key: 'w', value: text(half) }] },
        manyPuts(LIMITS.keysPerCommit),
        { ...manyPuts(1), conditions: manyConditions(LIMITS.conditionsPerCommit) },
      ];
      for (const change of largest) assert.equal((await journal.commit(change)).status, 'committed', 'a change within the limits was not made');

      // If it were sent its answer would be lost, and it would not be refused.
      loseNextAnswer(true);
      const revision = await journal.revision();
      const tooLarge: Change[] = [
        { puts: [{ key: `${long}k`, value: 1 }] },
        { deletes: [`${long}k`] },
        { takes: [{ counter: long, n: 1, limit: 1 }] },
        { conditions: [{ key: `${long}k`, absent: true }], puts: [{ key: 'a', value: 1 }] },
        { puts: [{ key: 'v', value: text(LIMITS.bytesPerValue + 2) }] },
        { puts: [{ key: 'v', value: text(half + 200) }, { key: 'w', value: text(half + 200) }] },
        manyPuts(LIMITS.keysPerCommit + 1),
        { ...manyPuts(1), conditions: manyConditions(LIMITS.conditionsPerCommit + 1) },
      ];
      for (const change of tooLarge) await refusedWith('ERR_JOURNAL_LIMIT', 'a change above the limits', () => journal.commit(change));
      assert.equal(await journal.revision(), revision);
    });
  }),

  law('a malformed change is refused', async (make) => {
    await using(make, async ({ journal, loseNextAnswer }) => {
      loseNextAnswer(true);
      const a = { key: 'a', value: 1 };
      const malformed: Change[] = [
        {},
        { conditions: [{ key: 'a', absent: true }] },
        { puts: [a, a] },
        { puts: [a], deletes: ['a'] },
        { deletes: ['a', 'a'] },
        { conditions: [{ key: 'a', absent: true }, { key: 'a', revision: 1 }], puts: [a] },
        { conditions: [{ key: 'a', revision: 0.5 }], puts: [a] },
        { takes: [{ counter: 'c', n: 0, limit: 1 }] },
        { takes: [{ counter: 'c', n: -1, limit: 1 }] },
        { takes: [{ counter: 'c', n: 1, limit: Infinity }] },
        { takes: [{ counter: 'c', n: 1, limit: 1 }, { counter: 'c', n: 1, limit: 2 }] },
        { puts: [{ key: `${COUNTERS}c`, value: 7 }] },
        { puts: [{ key: 'a', value: undefined as unknown as JsonValue }] },
        { puts: [{ key: 'a', value: 1n as unknown as JsonValue }] },
      ];
      for (const change of malformed) await refusedWith('ERR_JOURNAL_CHANGE', 'a malformed change', () => journal.commit(change));
      for (const key of ['', 'a b', 'é', 'a\n', '\0', 'a\x7f']) {
        await refusedWith('ERR_JOURNAL_KEY', `key ${JSON.stringify(key)}`, () => journal.commit({ puts: [{ key, value: 1 }] }));
        await refusedWith('ERR_JOURNAL_KEY', `key ${JSON.stringify(key)}`, () => journal.commit({ puts: [a], conditions: [{ key, absent: true }] }));
        await refusedWith('ERR_JOURNAL_KEY', `key ${JSON.stringify(key)}`, () => journal.get(key));
      }
      assert.equal(await journal.revision(), 0);
    });
  }),

  law('a commit whose answer is lost can be resolved', async (make) => {
    await using(make, async ({ journal, loseNextAnswer }) => {
      const logged = async (revision: number): Promise<string | undefined> => {
        return (await follow(journal, revision - 1, revision)).at(-1)?.events[0]?.key;
      };
      const resolved = async (id: string, key: string): Promise<void> => {
        const outcome = await journal.resolve(id);
        assert(outcome.status === 'committed', `${key} was made, and resolved as ${outcome.status}`);
        assert.equal(await logged(outcome.revision), key, 'resolved to the revision of another commit');
      };
      for (let i = 0; i < 4; i += 1) {
        const known = await journal.commit({ puts: [{ key: `known/${i}`, value: i }] });
        assert(known.status === 'committed');

        loseNextAnswer(true);
        const made = await journal.commit({ puts: [{ key: `made/${i}`, value: i }] });
        assert(made.status === 'unknown', `a lost answer was reported as ${made.status}`);
        loseNextAnswer(false);
        const lost = await journal.commit({ puts: [{ key: `lost/${i}`, value: i }] });
        assert(lost.status === 'unknown', `a lost answer was reported as ${lost.status}`);
        await put(journal, `after/${i}`, i);

        await resolved(known.id, `known/${i}`);
        await resolved(made.id, `made/${i}`);
        assert.deepEqual(await journal.resolve(lost.id), { status: 'absent' });
        assert(!(await state(journal)).has(`lost/${i}`), 'a commit resolved as absent was made');
      }
      // Others hear of a commit even if the one who made it does not.
      const revision = await journal.revision();
      const iterator = watch(journal, revision);
      const hear = async (key: string): Promise<void> => {
        while ((await next(iterator)).events[0]?.key !== key);
      };
      await put(journal, 'told', 1);
      await hear('told');
      loseNextAnswer(true);
      await journal.commit({ puts: [{ key: 'untold', value: 1 }] });
      await hear('untold');
      await iterator.return?.();
      await refusedWith('ERR_JOURNAL_CHANGE', 'something that is not an id', () => journal.resolve('x'));
    });
  }),

  law('a slow watcher is cut, with a position from which nothing is lost', async (make) => {
    await using(make, async ({ journal }) => {
      const queueLimit = 4;
      await put(journal, 'start', 0);
      const from = await journal.revision();
      const slow = watch(journal, from, { queueLimit });
      const quick = watch(journal, from, { queueLimit });
      const received: number[] = [];
      for (let i = 0; i < 3; i += 1) {
        await put(journal, 'quick', i);
        received.push((await next(slow)).revision);
        await next(quick);
      }
      for (let i = 0; i < 40; i += 1) {
        await put(journal, 'slow', i);
        await next(quick);
      }
      await sleep(20);
      const cut = await refusedWith('ERR_WATCH_SLOW', 'a watcher that left 40 commits waiting', async () => {
        for (let i = 0; i <= queueLimit; i += 1) received.push((await next(slow)).revision);
      });
      const { epoch, revision } = cut.details as { epoch: string; revision: number };
      assert.equal(epoch, journal.epoch);
      assert(revision <= Math.max(from, ...received), `cut at ${revision}, which was never received`);
      const end = await journal.revision();
      assert.equal((await follow(journal, revision, end)).at(-1)?.revision, end);
      assert.deepEqual(await within(slow.next(), 'a watch after its error'), { done: true, value: undefined });
      await quick.return?.();
    });
  }),

  law('compaction keeps the present and all after the horizon, and refuses what is before', async (make) => {
    await forHistories(make, async ({ journal }) => {
      const latest = await journal.revision();
      let oldest = 0;
      const bounds: CompactOptions[] = [{ keepRevisions: Math.floor(latest / 3) }, { before: latest }, {}];
      for (const options of bounds) {
        await turn(); // how soon a commit can be read is another law's matter
        const head = await journal.revision();
        const before = (await journal.list('')).entries;
        const log = eventsByRevision(await follow(journal, oldest, head));
        const past = new Map<number, readonly Entry[]>();
        for (let revision = oldest; revision <= head; revision += 1) past.set(revision, (await journal.list('', { revision })).entries);

        const { horizon } = await journal.compact(options);
        if (options.keepRevisions !== undefined) assert.equal(horizon, Math.max(oldest, head - options.keepRevisions));
        else if (options.before !== undefined) assert.equal(horizon, Math.max(oldest, options.before - 1));
        else assert.equal(horizon, head);
        oldest = horizon;

        assert.deepEqual((await journal.list('')).entries, before, 'compaction changed the present');
        for (const key of KEYS) assert.deepEqual(await journal.get(key), before.find((entry) => entry.key === key), 'compaction changed a key');
        for (let revision = horizon; revision <= head; revision += 1) {
          const { entries } = await journal.list('', { revision });
          assert.deepEqual(entries, past.get(revision), `compaction to ${horizon} changed what is listed at ${revision}`);
        }
        for (const [revision, events] of eventsByRevision(await follow(journal, horizon, head))) {
          if (log.has(revision)) assert.deepEqual(events, log.get(revision), `compaction to ${horizon} changed the log at ${revision}`);
        }
        // Conditions see the same as before, and the log goes on.
        const entry = before.find(({ key }) => !key.startsWith(COUNTERS));
        const gone = KEYS.find((key) => !before.some((it) => it.key === key));
        const conditions: Condition[] = [
          ...(entry === undefined ? [] : [{ key: entry.key, revision: entry.revision }]),
          ...(gone === undefined ? [] : [{ key: gone, absent: true as const }]),
        ];
        assert.equal((await journal.commit({ conditions, puts: [{ key: 'b', value: 'after' }] })).status, 'committed', 'compaction changed what conditions see');
        assert.equal(await journal.revision(), head + 1);
        assert.equal((await follow(journal, horizon, head + 1)).at(-1)?.revision, head + 1);
        if (horizon > 0) {
          const error = await refusedWith('ERR_JOURNAL_COMPACTED', 'a watch from before the horizon', () => next(watch(journal, horizon - 1)));
          assert.equal(error.details['oldest'], horizon);
          await refusedWith('ERR_JOURNAL_COMPACTED', 'a list before the horizon', () => journal.list('', { revision: horizon - 1 }));
        }
      }
    });
    await using(make, async ({ journal }) => {
      await put(journal, 'a', 1);
      await put(journal, 'a', 2);
      assert.equal((await journal.compact({ maxAge: 3_600_000 })).horizon, 0, 'a young commit was compacted');
      await sleep(5);
      assert.equal((await journal.compact({ maxAge: 1 })).horizon, 2, 'an old commit was kept');
      assert.equal((await journal.compact({ keepRevisions: 2 })).horizon, 2, 'the horizon went back');
    });
  }),

  law('what was committed is there after opening again', async (make) => {
    await forHistories(make, async (subject, history) => {
      const { journal } = subject;
      const { epoch } = journal;
      const before = await journal.list('');
      const reopened = await subject.reopen();
      assert.equal(reopened.epoch, epoch, 'the epoch changed');
      const after = await reopened.list('');
      assert.deepEqual(after, before, 'the state changed');
      const half = Math.floor(before.revision / 2);
      await commitAll(reopened, history.slice(0, 3));
      const end = await reopened.revision();
      const revisions = (await follow(reopened, half, end)).map(({ revision }) => revision);
      assert.equal(revisions.at(-1), end);
    });
  }),

  law('a commit is seen by every read after it', async (make) => {
    await using(make, async ({ journal }) => {
      const client = async (_: unknown, name: number): Promise<void> => {
        const key = `own/${name}`;
        for (let i = 0; i < 8; i += 1) {
          const last = i === 7;
          const before = await journal.revision();
          await journal.commit(last ? { deletes: [key] } : { puts: [{ key, value: i }] });
          const [entry, list, revision] = await Promise.all([journal.get(key), journal.list(key), journal.revision()]);
          assert.equal(entry?.value, last ? undefined : i, 'get answered with what was before');
          assert.equal(list.entries.find((it) => it.key === key)?.value, last ? undefined : i, 'list answered with what was before');
          assert(revision > before, 'the latest revision is the one before');
          assert(list.revision > before, 'the list is of a revision before');
        }
      };
      await Promise.all(Array.from({ length: 32 }, client));
    });
  }),

  law('a position outside of the history is refused', async (make) => {
    await using(make, async ({ journal }) => {
      await put(journal, 'a', 1);
      const elsewhere = { epoch: 'another', revision: 0 };
      const error = await refusedWith('ERR_JOURNAL_EPOCH', 'a watch of another epoch', () => within(journal.watch(elsewhere)[Symbol.asyncIterator]().next(), 'a refusal'));
      assert.equal(error.details['epoch'], journal.epoch);
      await refusedWith('ERR_JOURNAL_AHEAD', 'a watch from the future', () => next(watch(journal, 2)));
      await refusedWith('ERR_JOURNAL_AHEAD', 'a list of the future', () => journal.list('', { revision: 2 }));
      await refusedWith('ERR_JOURNAL_CHANGE', 'a watch without a queue', () => next(watch(journal, 0, { queueLimit: 0 })));
    });
  }),

  law('a signal ends a watch cleanly', async (make) => {
    await using(make, async ({ journal }) => {
      await put(journal, 'a', 1);
      const early = watch(journal, 0, { signal: AbortSignal.abort() });
      assert.equal((await within(early.next(), 'a watch aborted before', SHORT)).done, true);

      const control = new AbortController();
      const waiting = watch(journal, 0, { signal: control.signal });
      await next(waiting);
      const pending = waiting.next();
      await turn();
      control.abort();
      assert.equal((await within(pending, 'an aborted watch', SHORT)).done, true);
      assert.equal((await within(waiting.next(), 'an ended watch', SHORT)).done, true);

      let seen = 0;
      const loop = new AbortController();
      const run = async (): Promise<void> => {
        for await (const _ of journal.watch({ epoch: journal.epoch, revision: 0 }, { signal: loop.signal })) {
          seen += 1;
          loop.abort();
        }
      };
      await within(run(), 'a loop over an aborted watch', SHORT);
      assert.equal(seen, 1);
    });
  }),

  law('a list can be read in pages', async (make) => {
    await using(make, async ({ journal }) => {
      const keys = ['a', 'a!', 'a/', 'a/1', 'a/2', 'a/2/x', 'a/~', 'a0', 'aa', 'b'];
      for (const key of keys) await put(journal, key, key);
      await journal.commit({ deletes: ['a/2', 'aa'] });
      const there = keys.filter((key) => key !== 'a/2' && key !== 'aa').toSorted();
      for (const prefix of ['', 'a', 'a/', 'a/2', 'b', 'c']) {
        const expected = there.filter((key) => key.startsWith(prefix));
        const whole = await journal.list(prefix);
        assert.deepEqual(whole.entries.map(({ key }) => key), expected, `the keys that begin with "${prefix}"`);
        for (const limit of [1, 2, 3, 100]) {
          const paged: string[] = [];
          let after: string | undefined;
          for (;;) {
            const page = await journal.list(prefix, { limit, revision: whole.revision, ...(after === undefined ? {} : { after }) });
            assert(page.entries.length <= limit, `${page.entries.length} entries where ${limit} were asked for`);
            assert.equal(page.revision, whole.revision);
            paged.push(...page.entries.map(({ key }) => key));
            after = page.entries.at(-1)?.key;
            if (page.entries.length < limit || paged.length > expected.length) break;
          }
          assert.deepEqual(paged, expected, `the keys that begin with "${prefix}", ${limit} at a time`);
          await put(journal, 'a/between', limit); // later than the pages
          await journal.commit({ deletes: ['a/between'] });
        }
      }
    });
  }),

  law('a closed journal ends its watches and takes no calls', async (make) => {
    await using(make, async ({ journal }) => {
      await put(journal, 'a', 1);
      const iterator = watch(journal, 0);
      await next(iterator);
      const pending = iterator.next();
      pending.catch(() => undefined);
      const underWay: Promise<CommitResult> = journal.commit({ puts: [{ key: 'b', value: 1 }] });
      await journal.close();
      assert.equal((await underWay).status, 'committed');
      await refusedWith('ERR_JOURNAL_CLOSED', 'a watch of a closed journal', async () => {
        // The commit under way may still arrive first.
        for (let result = await within(pending, 'the end of a watch', SHORT); ; result = await within(iterator.next(), 'the end of a watch', SHORT)) {
          if (result.done === true) return 'the end';
        }
      });
      await refusedWith('ERR_JOURNAL_CLOSED', 'a commit', () => journal.commit({ puts: [{ key: 'c', value: 1 }] }));
      await refusedWith('ERR_JOURNAL_CLOSED', 'a list', () => journal.list(''));
      await refusedWith('ERR_JOURNAL_CLOSED', 'a get', () => journal.get('a'));
      await refusedWith('ERR_JOURNAL_CLOSED', 'a watch', () => next(watch(journal, 0)));
    });
  }),
];

/** Declares one test for each law. */
export function journalLaws(test: TestFn, name: string, make: MakeSubject): void {
  for (const { name: what, check } of laws) {
    test(`${name}: ${what}`, async (t) => {
      await t.notThrowsAsync(() => check(make));
    });
  }
}
