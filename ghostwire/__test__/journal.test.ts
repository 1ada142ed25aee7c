// The journals keep their laws, agree with each other, and what is particular to the one on SQLite.

import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import fc from 'fast-check';
import { Database } from 'zqlite';
import { GhostwireError } from '../src/errors.js';
import { COUNTERS } from '../src/journal/journal.js';
import type { Change, Condition, Journal, JournalCommit, JsonValue } from '../src/journal/journal.js';
import { MemoryJournal } from '../src/journal/memory.js';
import type { Projection } from '../src/journal/projection.js';
import { SqliteJournal } from '../src/journal/sqlite.js';
import { follow, journalLaws } from './journal.conformance.js';
import { checkHistory, Recorder } from './journal.history.js';
import { intercepted, memorySubject, sqliteSubject, temporaryFile } from './journal.subjects.js';

const RUNS = Number(process.env['JOURNAL_RUNS'] ?? 12);

journalLaws(test, 'memory', memorySubject());
journalLaws(test, 'sqlite', sqliteSubject());

// --- The same calls, one after another, on both ---

const KEYS = ['a', 'a/b', 'a/c', 'b', `${COUNTERS}c`] as const;
const key = fc.constantFrom(...KEYS);
const revision = fc.integer({ min: 0, max: 40 });

type Step = (journal: Journal) => Promise<unknown>;

const named = (name: string, step: Step): Step => Object.assign(step, { [fc.toStringMethod]: () => name });

/** Ids and times differ between any two journals. */
const comparable = ({ revision: at, events }: JournalCommit): unknown => ({ at, events });

const commitSteps: fc.Arbitrary<Step> = fc
  .record({
    conditions: fc.array(fc.oneof(fc.record({ key, absent: fc.constant(true as const) }), fc.record({ key, revision })), { maxLength: 2 }),
    takes: fc.array(fc.record({ counter: fc.constantFrom('c', 'd'), n: fc.integer({ min: 0, max: 3 }), limit: fc.integer({ min: 0, max: 9 }) }), { maxLength: 2 }),
    puts: fc.array(fc.record({ key, value: fc.jsonValue() as fc.Arbitrary<JsonValue> }), { maxLength: 2 }),
    deletes: fc.array(key, { maxLength: 2 }),
  })
  .map((change) =>
    named(`commit(${JSON.stringify(change)})`, async (journal) => {
      const result = await journal.commit(change);
      return 'id' in result ? { ...result, id: (await journal.resolve(result.id)).status } : result;
    }),
  );

const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: commitSteps },
  { weight: 2, arbitrary: key.map((it) => named(`get(${it})`, (journal) => journal.get(it))) },
  {
    weight: 3,
    arbitrary: fc
      .record(
        { prefix: fc.constantFrom('', 'a', 'a/', 'z'), options: fc.record({ revision, after: key, limit: fc.integer({ min: 1, max: 4 }) }, { requiredKeys: [] }) },
      )
      .map(({ prefix, options }) => named(`list(${prefix}, ${JSON.stringify(options)})`, (journal) => journal.list(prefix, options))),
  },
  {
    weight: 1,
    arbitrary: revision.map((from) =>
      named(`watch(${from})`, async (journal) => {
        const head = await journal.revision();
        // From the head or beyond there is nothing to wait for but a refusal.
        if (from <= head) return (await follow(journal, from, head)).map(comparable);
        return follow(journal, from, from + 1);
      }),
    ),
  },
  {
    weight: 1,
    arbitrary: fc
      .record({ keepRevisions: fc.integer({ min: 0, max: 9 }), before: revision }, { requiredKeys: [] })
      .map((options) => named(`compact(${JSON.stringify(options)})`, async (journal) => (await journal.compact(options)).horizon)),
  },
);

async function outcome(step: Step, journal: Journal): Promise<unknown> {
  try {
    return await step(journal);
  } catch (error) {
    if (!(error instanceof GhostwireError)) throw error;
    return { code: error.code, details: error.details };
  }
}

test('any calls one after another are answered alike by both journals', async (t) => {
  const property = fc.asyncProperty(fc.array(fc.oneof({ weight: 20, arbitrary: steps }, { weight: 1, arbitrary: fc.constant('reopen' as const) }), { maxLength: 60 }), async (list) => {
    const subject = await sqliteSubject()();
    const memory = new MemoryJournal();
    let { journal } = subject;
    try {
      for (const step of list) {
        if (step === 'reopen') journal = await subject.reopen();
        else t.deepEqual(await outcome(step, journal), await outcome(step, memory));
      }
      t.deepEqual(await journal.list(''), await memory.list(''));
    } finally {
      await subject.dispose();
    }
  });
  await fc.assert(property, { numRuns: RUNS, includeErrorInReport: true });
});

// --- Concurrent calls, judged by the log ---

test('64 concurrent clients are told what the log says', async (t) => {
  const subject = await sqliteSubject()();
  const { journal } = subject;
  const recorder = new Recorder();
  const client = async (_: unknown, name: number): Promise<void> => {
    const changes = fc.sample(
      fc.record({
        condition: fc.constantFrom('absent', 'current', 'none'),
        on: fc.constantFrom('x', 'y', 'z'),
        take: fc.boolean(),
        remove: fc.boolean(),
      }),
      { numRuns: 12, seed: name },
    );
    for (const [i, { condition, on, take, remove }] of changes.entries()) {
      const current = await journal.get(on);
      const conditions: Condition[] = [];
      if (condition === 'absent') conditions.push({ key: on, absent: true });
      if (condition === 'current' && current !== undefined) conditions.push({ key: on, revision: current.revision });
      const change: Change = {
        conditions,
        takes: take ? [{ counter: 'uses', n: 1, limit: 150 }] : [],
        puts: [{ key: `own/${name}`, value: i }, ...(remove ? [] : [{ key: on, value: name }])],
        deletes: remove ? [on] : [],
      };
      await recorder.commit(journal, change);
    }
  };
  await Promise.all(Array.from({ length: 64 }, client));
  const log = await follow(journal, 0, await journal.revision());
  t.notThrows(() => checkHistory(recorder.calls, log));

  // What the clients were told is also what the plain journal answers to the same commits in the log's order.
  const memory = new MemoryJournal();
  const made = recorder.calls.flatMap(({ change, result }) => (result.status === 'committed' ? [{ change, result }] : []));
  made.sort((a, b) => a.result.revision - b.result.revision);
  for (const { change, result } of made) t.like(await memory.commit(change), { status: 'committed', revision: result.revision, taken: result.taken });
  t.deepEqual(await journal.list(''), await memory.list(''));

  // The judge notices a lie.
  const [first] = made;
  const call = recorder.calls.find(({ result }) => result === first!.result)!;
  const lies = [
    { ...call, result: { ...first!.result, revision: first!.result.revision + 1 } },
    { ...call, floor: first!.result.revision },
    { ...call, change: { ...call.change, conditions: [{ key: 'x', revision: 99_999 }] } },
    { ...call, result: { status: 'conflict' as const, failed: { key: 'never', absent: true as const } } },
  ];
  for (const lie of lies) {
    t.throws(() => checkHistory(recorder.calls.map((it) => (it === call ? lie : it)), log), { name: 'AssertionError' });
  }
  await subject.dispose();
});

// --- SQLite ---

const keysOf = async (db: Database, table: string): Promise<unknown[]> => db.query(`SELECT * FROM ${table} ORDER BY key`);

const numbers = (version: number, column = 'value'): Projection => ({
  name: 'numbers',
  version,
  prefix: 'numbers/',
  create: [`CREATE TABLE numbers (key TEXT PRIMARY KEY, ${column} INTEGER NOT NULL CHECK (${column} < 1000))`],
  drop: ['DROP TABLE IF EXISTS numbers'],
  put: (it, value) => [{ sql: `INSERT INTO numbers VALUES (?, ?) ON CONFLICT DO UPDATE SET ${column} = excluded.${column}`, params: [it, Number(value)] }],
  delete: (it) => [{ sql: 'DELETE FROM numbers WHERE key = ?', params: [it] }],
});

test('projections follow their keys in the same transaction', async (t) => {
  const db = await Database.open(':memory:');
  const journal = await SqliteJournal.open(db, { projections: [numbers(1)] });
  await journal.commit({ puts: [{ key: 'numbers/a', value: 1 }, { key: 'numbers/b', value: 2 }, { key: 'other', value: 3 }] });
  await journal.commit({ puts: [{ key: 'numbers/a', value: 4 }], deletes: ['numbers/b'] });
  t.deepEqual(await keysOf(db, 'numbers'), [{ key: 'numbers/a', value: 4 }]);

  const conflict = await journal.commit({ conditions: [{ key: 'other', absent: true }], puts: [{ key: 'numbers/a', value: 5 }] });
  t.is(conflict.status, 'conflict');
  t.deepEqual(await keysOf(db, 'numbers'), [{ key: 'numbers/a', value: 4 }]);

  // What the projection refuses is not in the log either.
  await t.throwsAsync(journal.commit({ puts: [{ key: 'numbers/c', value: 1000 }] }), { code: 'ERR_CONSTRAINT' });
  t.is(await journal.get('numbers/c'), undefined);
  t.is(await journal.revision(), 2);
  await journal.close();
  await db.close();
});

test('a projection is built from the log when it is new, changed, or was left out', async (t) => {
  const db = await Database.open(':memory:');
  const open = async (...projections: Projection[]): Promise<SqliteJournal> => SqliteJournal.open(db, { projections });
  let journal = await open();
  const many = Array.from({ length: 700 }, (_, i) => ({ key: `numbers/${String(i).padStart(3, '0')}`, value: i }));
  for (let i = 0; i < many.length; i += 100) await journal.commit({ puts: many.slice(i, i + 100) });
  await journal.commit({ deletes: ['numbers/000'] });
  await journal.close();

  journal = await open(numbers(1));
  t.deepEqual(await keysOf(db, 'numbers'), many.slice(1));
  await db.execute("UPDATE numbers SET value = 7 WHERE key = 'numbers/001'");
  await journal.close();

  journal = await open(numbers(1));
  t.like((await keysOf(db, 'numbers'))[0], { value: 7 }, 'an unchanged projection was built again');
  await journal.close();

  journal = await open(numbers(2, 'n'));
  t.deepEqual((await keysOf(db, 'numbers'))[0], { key: 'numbers/001', n: 1 });
  await journal.close();

  journal = await open();
  await journal.commit({ deletes: ['numbers/001'] });
  await journal.close();
  journal = await open(numbers(2, 'n'));
  t.deepEqual((await keysOf(db, 'numbers'))[0], { key: 'numbers/002', n: 2 });
  await journal.close();

  for (const projection of [{ ...numbers(1), prefix: '' }, { ...numbers(1), prefix: 'counters/x' }, { ...numbers(1), version: 0.5 }]) {
    await t.throwsAsync(open(projection), { code: 'ERR_JOURNAL_PROJECTION' });
  }
  await t.throwsAsync(open(numbers(1), numbers(1)), { code: 'ERR_JOURNAL_PROJECTION' });
  await t.throwsAsync(open({ ...numbers(1), prefix: 'é' }), { code: 'ERR_JOURNAL_KEY' });
  await db.close();
});

test('a projection whose building was cut short is built again', async (t) => {
  const db = await Database.open(':memory:');
  const first = await SqliteJournal.open(db);
  await first.commit({ puts: [{ key: 'numbers/a', value: 1 }] });
  await first.close();
  const failing = { ...numbers(1), put: () => [{ sql: 'INSERT INTO nowhere VALUES (1)' }] };
  await t.throwsAsync(SqliteJournal.open(db, { projections: [failing] }), { code: 'ERR_SQL' });
  const journal = await SqliteJournal.open(db, { projections: [numbers(1)] });
  t.deepEqual(await keysOf(db, 'numbers'), [{ key: 'numbers/a', value: 1 }]);
  await journal.close();
  await db.close();
});

test('a database of something else is refused and left alone', async (t) => {
  const db = await Database.open(':memory:');
  await db.execute('CREATE TABLE accounts (id INTEGER PRIMARY KEY)');
  await t.throwsAsync(SqliteJournal.open(db), { code: 'ERR_JOURNAL_FORMAT', message: /accounts/ });
  t.deepEqual(await db.query("SELECT name FROM sqlite_schema WHERE type = 'table'"), [{ name: 'accounts' }]);
  await db.close();

  const later = await Database.open(':memory:');
  await (await SqliteJournal.open(later)).close();
  await later.execute("UPDATE journal_meta SET value = 2 WHERE name = 'format'");
  await t.throwsAsync(SqliteJournal.open(later), { code: 'ERR_JOURNAL_FORMAT', message: /format 2/ });
  await later.close();
});

test('a revision that is missing in the file is noticed, by watches old and new', async (t) => {
  const db = await Database.open(':memory:');
  const journal = await SqliteJournal.open(db);
  for (let i = 0; i < 6; i += 1) await journal.commit({ puts: [{ key: 'a', value: i }] });
  await db.execute('DELETE FROM journal_event WHERE revision = 3');
  await t.throwsAsync(follow(journal, 0, 6), { code: 'ERR_JOURNAL_CORRUPT', message: /revision 3/ });
  await t.notThrowsAsync(follow(journal, 3, 6));
  await db.execute('DELETE FROM journal_event WHERE revision = 6');
  await t.throwsAsync(follow(journal, 3, 6), { code: 'ERR_JOURNAL_CORRUPT', message: /revision 6/ });
  await journal.close();
  await db.close();
});

test('a value that changed on the disk is an error of the catalogue, wherever it is read', async (t) => {
  const db = await Database.open(':memory:');
  const journal = await SqliteJournal.open(db);
  for (const value of ['one', 'two']) await journal.commit({ puts: [{ key: 'a', value }] });
  await db.execute(`UPDATE journal_event SET value = '"tw' WHERE revision = 2`);
  const damaged = { code: 'ERR_JOURNAL_CORRUPT', message: /value of a at revision 2/ };
  await t.throwsAsync(journal.get('a'), damaged);
  await t.throwsAsync(journal.list(''), damaged);
  await t.throwsAsync(follow(journal, 0, 2), damaged);
  await journal.close();
  await db.close();
});

test('a watch over several pages of the log gets whole commits', async (t) => {
  const db = await Database.open(':memory:');
  const journal = await SqliteJournal.open(db);
  // 2,100 events; pages of 1,024 end within a commit.
  const events = ['a', 'b', 'c'].map((it) => ({ key: it, value: it }));
  for (let i = 0; i < 700; i += 1) await journal.commit({ puts: events });
  const commits = await follow(journal, 0, 700);
  t.is(commits.length, 700);
  t.true(commits.every((commit) => commit.events.length === 3));
  await journal.close();
  await db.close();
});

test('a list longer than a page is of one revision, also when the journal is compacted meanwhile', async (t) => {
  const db = await Database.open(':memory:');
  let betweenPages = async (): Promise<void> => {};
  const journal = await SqliteJournal.open(
    intercepted(db, {
      async query<Row>(...call: Parameters<Database['query']>): Promise<Row[]> {
        const rows = await db.query<Row>(...call);
        if (call[0].includes('GROUP BY key')) await betweenPages();
        return rows;
      },
    }),
  );
  const keys = Array.from({ length: 2_500 }, (_, i) => `k/${String(i).padStart(4, '0')}`);
  const putAll = async (value: number): Promise<void> => {
    for (let i = 0; i < keys.length; i += 100) await journal.commit({ puts: keys.slice(i, i + 100).map((it) => ({ key: it, value })) });
  };
  const once = (what: () => Promise<void>): void => {
    betweenPages = async () => {
      betweenPages = async () => {};
      await what();
    };
  };
  await putAll(1);
  t.deepEqual((await journal.list('k/')).entries.map((entry) => entry.key), keys);

  // Commits between two pages are not seen.
  once(() => putAll(2));
  const before = await journal.list('k/');
  t.deepEqual([before.revision, before.entries.length], [25, 2_500]);
  t.true(before.entries.every(({ value }) => value === 1));

  // When what was begun can no longer be finished, the list is of a later revision; one that was asked for is refused.
  const overtake = async (): Promise<void> => {
    await putAll(3);
    await journal.compact();
  };
  once(overtake);
  const after = await journal.list('k/');
  t.deepEqual([after.revision, after.entries.length], [75, 2_500]);
  t.true(after.entries.every(({ value }) => value === 3));
  once(overtake);
  await t.throwsAsync(journal.list('k/', { revision: 75 }), { code: 'ERR_JOURNAL_COMPACTED' });

  // Pages full of deleted keys are read over.
  for (let i = 0; i < 2_400; i += 100) await journal.commit({ deletes: keys.slice(i, i + 100) });
  t.deepEqual((await journal.list('k/', { limit: 3 })).entries.map((entry) => entry.key), keys.slice(2_400, 2_403));
  await journal.close();
  await db.close();
});

test('compaction removes what is superseded, and only that', async (t) => {
  const db = await Database.open(':memory:');
  const journal = await SqliteJournal.open(db);
  const count = async (): Promise<number> => (await db.get<{ n: number }>('SELECT count(*) AS n FROM journal_event'))!.n;
  for (let i = 0; i < 700; i += 1) {
    await journal.commit({ takes: [{ counter: 'hot', n: 1, limit: 1_000 }], puts: [{ key: `k/${i % 10}`, value: i }], deletes: [`gone/${i % 5}`] });
  }
  t.is(await count(), 2_100);
  const { horizon, removed } = await journal.compact({ keepRevisions: 100 });
  t.is(horizon, 600);
  // Of the first 600 revisions the counter and ten keys remain, and no deletion.
  t.is(await count(), 300 + 11);
  t.is(removed, 1_800 - 11);
  t.deepEqual(await journal.compact({ keepRevisions: 100 }), { horizon: 600, removed: 0 });
  t.deepEqual((await journal.list('k/')).entries.map(({ value }) => value), [690, 691, 692, 693, 694, 695, 696, 697, 698, 699]);
  t.is((await journal.list('gone/')).entries.length, 0);

  // One that was cut short after its horizon was recorded is finished by the next.
  await db.execute("UPDATE journal_meta SET value = 650 WHERE name = 'horizon'");
  t.is((await journal.compact({ keepRevisions: 100 })).horizon, 650);
  t.is(await count(), 150 + 11);
  await journal.compact();
  t.is(await count(), 11);
  t.like(await journal.commit({ takes: [{ counter: 'hot', n: 1, limit: 1_000 }] }), { revision: 701, taken: [701] });
  await journal.close();
  await db.close();
});

test('ids of commits are forgotten an hour after their time, and not taken for absent', async (t) => {
  let now = 1_000_000_000_000;
  const db = await Database.open(':memory:');
  const journal = await SqliteJournal.open(db, { now: () => now });
  const ids: string[] = [];
  for (let i = 0; i < 5; i += 1) {
    const result = await journal.commit({ puts: [{ key: 'a', value: i }] });
    ids.push(result.status === 'committed' ? result.id : '');
    now += 600_000;
  }
  await journal.compact();
  for (const [i, id] of ids.entries()) t.deepEqual(await journal.resolve(id), { status: 'committed', revision: i + 1 });
  now += 2_000_000; // the first was made 5,000 s ago, the third 3,800 s, the fourth 3,200 s
  await journal.compact();
  for (const id of ids.slice(0, 3)) await t.throwsAsync(journal.resolve(id), { code: 'ERR_JOURNAL_COMPACTED' });
  t.deepEqual(await journal.resolve(ids[3]!), { status: 'committed', revision: 4 });
  const other = ids[3]!.replace(/.$/, (digit) => (digit === '0' ? '1' : '0'));
  t.deepEqual(await journal.resolve(other), { status: 'absent' });
  now += 10_000_000;
  await journal.compact();
  t.is(await journal.revision(), 5, 'the last revision was forgotten');
  await journal.close();
  await db.close();
});

test('time never runs backwards in the log', async (t) => {
  const times = [5_000, 3_000, 4_000, 6_000];
  const db = await Database.open(':memory:');
  let journal = await SqliteJournal.open(db, { now: () => times.shift()! });
  for (let i = 0; i < 3; i += 1) await journal.commit({ puts: [{ key: 'a', value: i }] });
  await journal.close();
  journal = await SqliteJournal.open(db, { now: () => 1_000 });
  await journal.commit({ puts: [{ key: 'a', value: 3 }] });
  t.deepEqual((await follow(journal, 0, 4)).map(({ at }) => at), [5_000, 5_000, 5_000, 5_000]);
  await journal.close();
  await db.close();
});

test('a compaction does not cut watchers that keep up', async (t) => {
  const subject = await sqliteSubject()();
  const { journal } = subject;
  const seen: number[] = [];
  const following = (async () => {
    for await (const { revision: at } of journal.watch({ epoch: journal.epoch, revision: 0 })) {
      seen.push(at);
      if (at === 300) return;
    }
  })();
  const writing = (async () => {
    for (let i = 0; i < 300; i += 1) await journal.commit({ puts: [{ key: 'a', value: i }] });
  })();
  const compacting = (async () => {
    while (seen.length < 300) {
      if (seen.length > 0) await journal.compact();
      await turn();
    }
  })();
  await Promise.all([following, writing, compacting]);
  t.deepEqual(seen, Array.from({ length: 300 }, (_, i) => i + 1));
  await subject.dispose();
});

test('a commit that cannot be made in time is given up', async (t) => {
  const db = await Database.open(':memory:');
  const journal = await SqliteJournal.open(db);
  let release = (): void => undefined;
  const held = db.transaction(async (transaction) => {
    await transaction.query('SELECT 1');
    await new Promise<void>((resolve) => (release = resolve));
  });
  await turn();
  const late = t.throwsAsync(journal.commit({ puts: [{ key: 'a', value: 1 }] }, { deadline: 20 }), { code: 'ERR_DEADLINE' });
  await sleep(60);
  release();
  await held;
  await late;
  t.is(await journal.revision(), 0);
  t.like(await journal.commit({ puts: [{ key: 'a', value: 1 }] }, { deadline: 10_000 }), { status: 'committed', revision: 1 });
  await journal.close();
  await db.close();
});

test('a watch that fails in the database underneath says so', async (t) => {
  const file = await temporaryFile();
  const db = await Database.open(file.path);
  const journal = await SqliteJournal.open(db);
  await journal.commit({ puts: [{ key: 'a', value: 1 }] });
  await db.close();
  await t.throwsAsync(follow(journal, 0, 1), { code: 'ERR_CLOSED' });
  await t.throwsAsync(journal.commit({ puts: [{ key: 'a', value: 2 }] }), { code: 'ERR_CLOSED' });
  await file.remove();
});
