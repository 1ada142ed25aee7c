// The memory that follows the journal: from any start, over being too slow, and never past a failure.

import test from 'ava';
import { MemoryJournal } from '../src/journal/memory.js';
import type { JournalCommit, Position, WatchOptions } from '../src/journal/journal.js';
import { silentLog } from '../src/log.js';
import { Replica } from '../src/replica.js';

/** A replica that keeps every key under `a/`, and the revisions that it published. */
async function follow(journal: MemoryJournal) {
  const replica = new Replica(journal, silentLog('test'));
  const state = new Map<string, unknown>();
  const published: number[] = [];
  const failures: unknown[] = [];
  replica.on('a/', ({ key, value }) => {
    if (value === undefined) state.delete(key);
    else state.set(key, value);
  });
  replica.onPublish((revision) => void published.push(revision));
  await replica.start((error) => failures.push(error));
  return { replica, state, published, failures };
}

const put = (journal: MemoryJournal, key: string, value: number) => journal.commit({ puts: [{ key, value }] });

test('it holds what was there, and what comes, under its prefixes only', async (t) => {
  const journal = new MemoryJournal();
  await put(journal, 'a/1', 1);
  await put(journal, 'b/1', 1);
  const { replica, state, published } = await follow(journal);
  t.deepEqual([...state], [['a/1', 1]]);
  t.deepEqual(published, [2]);
  await put(journal, 'a/2', 2);
  await journal.commit({ deletes: ['a/1'] });
  await replica.settled(4);
  t.deepEqual([...state], [['a/2', 2]]);
  t.is(replica.revision, 4);
  await replica.stop();
  t.false(replica.following);
});

test('commits that arrive together are published together', async (t) => {
  const journal = new MemoryJournal();
  const { replica, published } = await follow(journal);
  await Promise.all(Array.from({ length: 100 }, (_, index) => put(journal, `a/${index}`, index)));
  await replica.settled(100);
  t.is(published.at(-1), 100);
  t.true(published.length < 20, `${published.length} times`);
  await replica.stop();
});

/** A watch that is cut after every few commits. */
class Impatient extends MemoryJournal {
  cuts = 0;

  override async *watch(from: Position, options: WatchOptions = {}): AsyncGenerator<JournalCommit> {
    let left = 3;
    for await (const commit of super.watch(from, options)) {
      if (left === 0) {
        this.cuts += 1;
        throw Object.assign(new Error('too slow'), { code: 'ERR_WATCH_SLOW', retryable: true });
      }
      left -= 1;
      yield commit;
    }
  }
}

test('cut for being slow, it resumes without a gap', async (t) => {
  const journal = new Impatient();
  const { replica, state, failures } = await follow(journal);
  const applied: number[] = [];
  for (let index = 0; index < 50; index += 1) await put(journal, `a/${index}`, index);
  await replica.caughtUp();
  for (const value of state.values()) applied.push(Number(value));
  t.deepEqual(applied, Array.from({ length: 50 }, (_, index) => index));
  t.true(journal.cuts >= 10);
  t.deepEqual(failures, []);
  await replica.stop();
});

test('when it cannot follow it says so once, and lets nobody wait', async (t) => {
  for (const broken of ['watch', 'apply', 'publish']) {
    const journal = new MemoryJournal();
    const { replica, failures } = await follow(journal);
    const breaks = new Error(broken);
    if (broken === 'watch') await journal.close();
    else if (broken === 'apply') replica.on('a/', () => raise(breaks));
    else replica.onPublish(() => raise(breaks));
    const waiting = replica.settled(1);
    if (broken !== 'watch') await put(journal, 'a/1', 1);
    await t.throwsAsync(waiting, undefined, broken);
    await t.throwsAsync(replica.settled(2), undefined, broken);
    t.is(failures.length, 1, broken);
    t.false(replica.following, broken);
    await replica.stop();
  }
});

function raise(error: Error): never {
  throw error;
}
