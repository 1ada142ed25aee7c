// The watchers' hub over a plain log, with every order in which its reads can come back.

import test from 'ava';
import fc from 'fast-check';
import { GhostwireError } from '../src/errors.js';
import type { JournalCommit } from '../src/journal/journal.js';
import { WatchHub } from '../src/journal/watch.js';
import type { LogPage } from '../src/journal/watch.js';

const RUNS = Number(process.env['JOURNAL_RUNS'] ?? 12) * 50;
const PER_PAGE = 3;
const EPOCH = 'e';

/** A log of which a commit says whether it was above the horizon, so complete, when it was read. */
class PlainLog {
  head = 0;
  horizon = 0;

  page(after: number): LogPage {
    const end = Math.min(after + PER_PAGE, this.head);
    const commits: JournalCommit[] = [];
    for (let revision = after + 1; revision <= end; revision += 1) {
      commits.push({ revision, at: 0, events: revision > this.horizon ? [{ key: 'complete', value: true }] : [] });
    }
    return { head: this.head, horizon: this.horizon, commits, last: end === this.head };
  }
}

const codeOf = (error: unknown): string | undefined => (error instanceof GhostwireError ? error.code : undefined);

type Action = { do: 'commit'; answer: 'offer' | 'wake' } | { do: 'compact' } | { do: 'watch'; back: number; queueLimit: number } | { do: 'leave'; which: number };

const actions: fc.Arbitrary<Action> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('commit' as const), answer: fc.constantFrom('offer', 'wake') }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('watch' as const), back: fc.nat(6), queueLimit: fc.constantFrom(2, 1_000) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('leave' as const), which: fc.nat(5) }) },
  { weight: 1, arbitrary: fc.constant({ do: 'compact' as const }) },
);

test('whatever the order of reads, a watch is a prefix of the log and is not forgotten', async (t) => {
  const property = fc.asyncProperty(fc.scheduler(), fc.array(actions, { minLength: 5, maxLength: 40 }), async (scheduler, list) => {
    const log = new PlainLog();
    const hub = new WatchHub(async (after) => {
      // The moment of reading, and the moment at which the answer is there.
      await scheduler.schedule(Promise.resolve(), 'read');
      const page = log.page(after);
      await scheduler.schedule(Promise.resolve(), 'answer');
      return page;
    });

    const later = (label: string, run: () => void): void => {
      void scheduler.schedule(Promise.resolve(), label).then(run);
    };

    interface Client {
      readonly from: number;
      readonly seen: JournalCommit[];
      readonly iterator: AsyncIterableIterator<JournalCommit>;
      error?: unknown;
      left?: boolean;
    }
    const clients: Client[] = [];
    const consume = async (client: Client): Promise<void> => {
      try {
        for (;;) {
          const result = await client.iterator.next();
          if (result.done === true) return;
          client.seen.push(result.value);
          await scheduler.schedule(Promise.resolve(), 'consumed');
        }
      } catch (error) {
        client.error = error;
      }
    };
    const act = (action: Action): void => {
      if (action.do === 'commit') {
        log.head += 1;
        const commit: JournalCommit = { revision: log.head, at: 0, events: [{ key: 'complete', value: true }] };
        // Answers come back in any order, and later than the log can be read.
        later('acknowledged', () => {
          if (action.answer === 'offer') hub.offer(commit.revision, () => commit);
          else hub.wake();
        });
      } else if (action.do === 'compact') {
        log.horizon = log.head;
      } else if (action.do === 'watch') {
        const from = Math.max(0, log.head - action.back);
        const client: Client = { from, seen: [], iterator: hub.watch({ epoch: EPOCH, revision: from }, action.queueLimit, undefined) };
        clients.push(client);
        void consume(client);
      } else {
        const client = clients[action.which];
        if (client === undefined) return;
        client.left = true;
        void client.iterator.return?.();
      }
    };
    for (const action of list) later(action.do, () => act(action));
    await scheduler.waitIdle();

    for (const { from, seen, error, left } of clients) {
      t.deepEqual(seen.map(({ revision }) => revision), seen.map((_, i) => from + i + 1), 'a gap or a repetition');
      t.true(seen.every(({ events }) => events.length > 0), 'an incomplete commit was delivered');
      const reached = seen.at(-1)?.revision ?? from;
      const code = codeOf(error);
      if (left === true) continue;
      if (code === undefined) t.is(reached, log.head, 'a watch was forgotten');
      else if (code === 'ERR_WATCH_SLOW') t.deepEqual((error as GhostwireError).details, { epoch: EPOCH, revision: reached });
      else t.is(code, 'ERR_JOURNAL_COMPACTED');
    }
    for (const { iterator } of clients) await iterator.return?.();
  });
  await fc.assert(property, { numRuns: RUNS, includeErrorInReport: true });
});

const turns = async (count = 20): Promise<void> => {
  for (let i = 0; i < count; i += 1) await new Promise((resolve) => setImmediate(resolve));
};

test('a watcher that catches up slowly is not cut, and reads only what it has room for', async (t) => {
  const log = new PlainLog();
  log.head = 100;
  let reads = 0;
  const hub = new WatchHub(async (after) => {
    reads += 1;
    return log.page(after);
  });
  const watch = hub.watch({ epoch: EPOCH, revision: 0 }, 4, undefined);
  await turns();
  t.is(reads, 2, 'pages were read that nobody had room for');
  for (let revision = 1; revision <= 100; revision += 1) {
    t.is((await watch.next()).value?.revision, revision);
    if (revision % 10 === 0) await turns(2);
  }
  await watch.return?.();
});

test('any number of watchers that keep up cost one read', async (t) => {
  const log = new PlainLog();
  let reads = 0;
  const hub = new WatchHub(async (after) => {
    reads += 1;
    return log.page(after);
  });
  t.is(hub.tail, undefined);
  const watches = Array.from({ length: 50 }, () => hub.watch({ epoch: EPOCH, revision: 0 }, 4, undefined));
  await turns();
  t.is(hub.tail, 0);
  reads = 0;
  for (let revision = 1; revision <= 10; revision += 1) {
    log.head = revision;
    hub.wake();
    const commits = await Promise.all(watches.map((watch) => watch.next()));
    t.true(commits.every(({ value }) => value === commits[0]!.value));
    t.is(hub.tail, revision);
  }
  t.is(reads, 10);
  for (const watch of watches) await watch.return?.();
  t.is(hub.tail, undefined);
  hub.wake();
  await turns();
  t.is(reads, 10, 'the log is read for nobody');
});

test('a page that was read for watchers who left is not handed to those who came', async (t) => {
  const log = new PlainLog();
  const answers: (() => void)[] = [];
  const hub = new WatchHub((after) => {
    const page = log.page(after);
    return new Promise((resolve) => answers.push(() => resolve(page)));
  });
  const answer = async (read: number): Promise<void> => {
    answers[read]!();
    await turns(2);
  };
  log.head = 4;
  const late = hub.watch({ epoch: EPOCH, revision: 4 }, 4, undefined);
  log.head = 5;
  const early = hub.watch({ epoch: EPOCH, revision: 5 }, 4, undefined);
  await answer(1);
  await answer(2);
  t.is(hub.tail, 5);
  log.head = 6;
  hub.wake();
  await early.return?.();
  await answer(0);
  t.is(hub.tail, 4);
  await answer(3); // holds 6, and not 5
  await answer(4);
  t.is((await late.next()).value?.revision, 5);
  t.is((await late.next()).value?.revision, 6);
  await late.return?.();
});

test('one call to wake reads as many pages as there are', async (t) => {
  const log = new PlainLog();
  const hub = new WatchHub(async (after) => log.page(after));
  const watch = hub.watch({ epoch: EPOCH, revision: 0 }, 100, undefined);
  await turns();
  log.head = 20;
  hub.wake();
  await turns();
  t.is(hub.tail, 20);
  for (let revision = 1; revision <= 20; revision += 1) t.is((await watch.next()).value?.revision, revision);
  await watch.return?.();
});

test('what is offered in turn is not read', async (t) => {
  const log = new PlainLog();
  let reads = 0;
  const hub = new WatchHub(async (after) => {
    reads += 1;
    return log.page(after);
  });
  const offer = (revision: number): void => hub.offer(revision, () => ({ revision, at: 0, events: [] }));
  const watch = hub.watch({ epoch: EPOCH, revision: 0 }, 4, undefined);
  await turns();
  reads = 0;
  log.head = 3;
  offer(1);
  t.is((await watch.next()).value?.revision, 1);
  t.is(reads, 0);
  offer(3);
  offer(1);
  t.is((await watch.next()).value?.revision, 2);
  t.is((await watch.next()).value?.revision, 3);
  t.is(reads, 1);
  await watch.return?.();
});

test('a read that fails ends the watches of its time, and later ones are well', async (t) => {
  const log = new PlainLog();
  let failing = false;
  const hub = new WatchHub(async (after) => {
    if (failing) throw new Error('the disk is gone');
    return log.page(after);
  });
  const watch = hub.watch({ epoch: EPOCH, revision: 0 }, 4, undefined);
  await turns();
  failing = true;
  log.head = 1;
  hub.wake();
  await t.throwsAsync(watch.next(), { message: 'the disk is gone' });
  t.deepEqual(await watch.next(), { done: true, value: undefined });
  await t.throwsAsync(hub.watch({ epoch: EPOCH, revision: 0 }, 4, undefined).next(), { message: 'the disk is gone' });
  failing = false;
  t.is((await hub.watch({ epoch: EPOCH, revision: 0 }, 4, undefined).next()).value?.revision, 1);
  await hub.close(new Error('closed'));
});

test('several callers of next are served in turn', async (t) => {
  const log = new PlainLog();
  const hub = new WatchHub(async (after) => log.page(after));
  const watch = hub.watch({ epoch: EPOCH, revision: 0 }, 4, undefined);
  const first = watch.next();
  const second = watch.next();
  const third = watch.next();
  await turns();
  log.head = 2;
  hub.wake();
  t.is((await first).value?.revision, 1);
  t.is((await second).value?.revision, 2);
  await hub.close(new Error('closed'));
  await t.throwsAsync(third, { message: 'closed' });
});
