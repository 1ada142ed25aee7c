// For each law a journal that breaks it, and no other: so every law can fail, and a failure names what is wrong.

import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import type {
  Change,
  CommitResult,
  CompactOptions,
  CompactResult,
  Entry,
  Journal,
  JournalCommit,
  ListOptions,
  Position,
  Snapshot,
  WatchOptions,
} from '../src/journal/journal.js';
import { encodeChange } from '../src/journal/checks.js';
import { MemoryStore } from '../src/journal/memory.js';
import { laws } from './journal.conformance.js';
import type { MakeSubject } from './journal.conformance.js';
import { memorySubject, Through } from './journal.subjects.js';

/** Rewrites what a watch delivers: each commit becomes none, one or several. */
abstract class WatchesThrough extends Through {
  abstract rewrite(commit: JournalCommit, nth: number, from: Position): Iterable<JournalCommit>;

  override watch(from: Position, options?: WatchOptions): AsyncIterable<JournalCommit> {
    const inner = this.inner.watch(from, options);
    const rewrite = this.rewrite.bind(this);
    return {
      async *[Symbol.asyncIterator]() {
        let nth = 0;
        for await (const commit of inner) yield* rewrite(commit, nth++, from);
      },
    };
  }
}

class IgnoresConditions extends Through {
  override async commit(change: Change): Promise<CommitResult> {
    encodeChange(change); // what is refused is another law's matter
    return this.inner.commit({ ...change, conditions: [] });
  }
}

/** Looks at the conditions before it commits instead of when it commits. */
class ChecksTooEarly extends Through {
  override async commit(change: Change): Promise<CommitResult> {
    encodeChange(change);
    for (const condition of change.conditions ?? []) {
      const entry = await this.inner.get(condition.key);
      if ('absent' in condition ? entry !== undefined : entry?.revision !== condition.revision) return { status: 'conflict', failed: condition };
    }
    if (change.conditions?.length) await turn();
    return this.inner.commit({ ...change, conditions: [] });
  }
}

class BlamesTheLastCondition extends Through {
  override async commit(change: Change): Promise<CommitResult> {
    const result = await this.inner.commit(change);
    const last = change.conditions?.at(-1);
    return result.status === 'conflict' && last !== undefined ? { status: 'conflict', failed: last } : result;
  }
}

class ReusesARevision extends Through {
  override async commit(change: Change): Promise<CommitResult> {
    const result = await this.inner.commit(change);
    return result.status === 'committed' && result.revision % 5 === 0 ? { ...result, revision: result.revision - 1 } : result;
  }
}

class SplitsARevision extends WatchesThrough {
  override *rewrite(commit: JournalCommit): Iterable<JournalCommit> {
    for (const event of commit.events) yield { ...commit, events: [event] };
  }
}

class SkipsAnEvent extends WatchesThrough {
  override rewrite(commit: JournalCommit): Iterable<JournalCommit> {
    return [commit.events.length > 1 ? { ...commit, events: commit.events.slice(1) } : commit];
  }
}

class ListsThePresentAsThePast extends Through {
  override async list(prefix: string, options: ListOptions = {}): Promise<Snapshot> {
    await this.inner.list(prefix, options);
    const { entries } = await this.inner.list(prefix, { ...options, revision: await this.inner.revision() });
    const { revision } = await this.inner.list(prefix, options);
    // Pages are another law's matter: it reads them while others write.
    return options.limit === undefined ? { revision, entries } : this.inner.list(prefix, options);
  }
}

class ListsHalfACommit extends Through {
  #half: string | undefined;
  override async commit(change: Change): Promise<CommitResult> {
    this.#half = change.puts?.at(1)?.key;
    const result = await this.inner.commit(change);
    // For a moment the first key is there and the second is not.
    setImmediate(() => (this.#half = undefined));
    return result;
  }
  override async list(prefix: string, options?: ListOptions): Promise<Snapshot> {
    const snapshot = await this.inner.list(prefix, options);
    return prefix === 'pair/' ? { ...snapshot, entries: snapshot.entries.filter(({ key }) => key !== this.#half) } : snapshot;
  }
}

abstract class WatchesWithTheLog extends WatchesThrough {
  constructor(
    inner: Journal,
    protected readonly store: MemoryStore,
  ) {
    super(inner);
  }
}

class RepeatsOnResume extends WatchesWithTheLog {
  override rewrite(commit: JournalCommit, nth: number, from: Position): Iterable<JournalCommit> {
    const before = this.store.log[from.revision - 1];
    return nth === 0 && before !== undefined ? [before, commit] : [commit];
  }
}

class SkipsARevision extends WatchesWithTheLog {
  /** Never the last one, for which somebody may be waiting. */
  override rewrite(commit: JournalCommit, nth: number): Iterable<JournalCommit> {
    return nth === 1 && commit.revision < this.store.log.length ? [] : [commit];
  }
}

class TakesOneTooMany extends Through {
  override async commit(change: Change): Promise<CommitResult> {
    const takes = (change.takes ?? []).map(({ counter, n, limit }) => ({ counter, n, limit: limit + 1 }));
    const result = await this.inner.commit({ ...change, takes });
    const failed = result.status === 'conflict' && change.takes?.[takes.findIndex((take) => take === result.failed)];
    return failed ? { status: 'conflict', failed } : result;
  }
}

/** Looks at a counter, and then writes what it saw plus one. */
class TakesTheSameTwice extends Through {
  #value = 0;
  override async commit(change: Change): Promise<CommitResult> {
    const [take] = change.takes ?? [];
    if (take?.counter !== 'uses') return this.inner.commit(change);
    const seen = this.#value;
    const result = await this.inner.commit(change);
    if (result.status !== 'committed') return result;
    this.#value = result.taken[0]!;
    return { ...result, taken: [seen + take.n] };
  }
}

class KeepsTakesOfAConflict extends Through {
  override async commit(change: Change): Promise<CommitResult> {
    const result = await this.inner.commit(change);
    const [first, second] = change.takes ?? [];
    if (result.status === 'conflict' && first !== undefined && second?.counter === 'exceeds') await this.inner.commit({ takes: [first] });
    return result;
  }
}

class WritesDespiteAConflict extends Through {
  override async commit(change: Change): Promise<CommitResult> {
    const result = await this.inner.commit(change);
    const { puts = [] } = change;
    if (result.status === 'conflict' && 'counter' in result.failed && puts.length > 0) await this.inner.commit({ puts });
    return result;
  }
}

class NoticesLimitsTooLate extends Through {
  override async commit(change: Change): Promise<CommitResult> {
    try {
      return await this.inner.commit(change);
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_JOURNAL_LIMIT') throw error;
      return this.inner.commit({ puts: [{ key: 'cut-short', value: 1 }] });
    }
  }
}

class TakesTheLastOfTwo extends Through {
  override commit({ puts = [], ...change }: Change): Promise<CommitResult> {
    return this.inner.commit({ ...change, puts: [...new Map(puts.map((put) => [put.key, put])).values()] });
  }
}

class MendsKeys extends Through {
  override commit({ puts = [], ...change }: Change): Promise<CommitResult> {
    return this.inner.commit({ ...change, puts: puts.map(({ key, value }) => ({ key: key.replace(/\s/g, '_'), value })) });
  }
}

class ResolvesAsAbsent extends Through {
  override async resolve(id: string): ReturnType<Journal['resolve']> {
    await this.inner.resolve(id);
    return { status: 'absent' };
  }
}

class ResolvesToTheLatest extends Through {
  override async resolve(id: string): ReturnType<Journal['resolve']> {
    const outcome = await this.inner.resolve(id);
    return outcome.status === 'absent' ? outcome : { status: 'committed', revision: await this.inner.revision() };
  }
}

class MakesWhatItCallsAbsent extends Through {
  #lost: Change | undefined;
  override async commit(change: Change): Promise<CommitResult> {
    const result = await this.inner.commit(change);
    if (result.status === 'unknown') this.#lost = change;
    return result;
  }
  override async resolve(id: string): ReturnType<Journal['resolve']> {
    const outcome = await this.inner.resolve(id);
    if (outcome.status === 'absent' && this.#lost !== undefined) await this.inner.commit(this.#lost);
    return outcome;
  }
}

class NeverCuts extends Through {
  override watch(from: Position, { queueLimit = 1, ...options }: WatchOptions = {}): AsyncIterable<JournalCommit> {
    // The range of a queue limit is another law's matter.
    return this.inner.watch(from, { ...options, queueLimit: Math.min(queueLimit, 1) * 1_000_000 });
  }
}

/** The position that a cut watcher is told is where the log ends, not where the watcher is. */
class CutsTooFarOn extends Through {
  override watch(from: Position, options?: WatchOptions): AsyncIterable<JournalCommit> {
    const { inner } = this;
    return {
      async *[Symbol.asyncIterator]() {
        try {
          yield* inner.watch(from, options);
        } catch (error) {
          const { code, details } = error as { code?: string; details: { revision: number } };
          if (code === 'ERR_WATCH_SLOW') details.revision = await inner.revision();
          throw error;
        }
      },
    };
  }
}

class CompactsOneKeyAway extends Through {
  #compacted = false;
  override compact(options?: CompactOptions): Promise<CompactResult> {
    this.#compacted = true;
    return this.inner.compact(options);
  }
  override async list(prefix: string, options?: ListOptions): Promise<Snapshot> {
    const snapshot = await this.inner.list(prefix, options);
    return this.#compacted ? { ...snapshot, entries: snapshot.entries.slice(1) } : snapshot;
  }
}

/** Begins a watch from before the horizon at the horizon, as if nothing was missing. */
class WatchesTheCompacted extends Through {
  #horizon = 0;
  override async compact(options?: CompactOptions): Promise<CompactResult> {
    const result = await this.inner.compact(options);
    this.#horizon = result.horizon;
    return result;
  }
  override watch(from: Position, options?: WatchOptions): AsyncIterable<JournalCommit> {
    return this.inner.watch({ ...from, revision: Math.max(from.revision, this.#horizon) }, options);
  }
}

class CompactsTheYoung extends Through {
  override compact({ maxAge: _, ...options }: CompactOptions = {}): Promise<CompactResult> {
    return this.inner.compact(options);
  }
}

/** Answers with what a key held before, until the event loop has turned. */
class AnswersStale extends Through {
  readonly #before = new Map<string, Entry | undefined>();
  override async commit(change: Change): Promise<CommitResult> {
    const keys = [...(change.puts ?? []).map(({ key }) => key), ...(change.deletes ?? [])].filter((key) => key.startsWith('own/'));
    for (const key of keys) this.#before.set(key, await this.inner.get(key));
    const result = await this.inner.commit(change);
    setImmediate(() => keys.forEach((key) => this.#before.delete(key)));
    return result;
  }
  override async get(key: string): Promise<Entry | undefined> {
    return this.#before.has(key) ? this.#before.get(key) : this.inner.get(key);
  }
}

class IgnoresTheEpoch extends Through {
  override watch({ revision }: Position, options?: WatchOptions): AsyncIterable<JournalCommit> {
    return this.inner.watch({ epoch: this.inner.epoch, revision }, options);
  }
}

class WaitsForTheFuture extends Through {
  override async list(prefix: string, { revision, ...options }: ListOptions = {}): Promise<Snapshot> {
    const head = await this.inner.revision();
    return this.inner.list(prefix, revision === undefined ? options : { ...options, revision: Math.min(revision, head) });
  }
}

class IgnoresTheSignal extends Through {
  override watch(from: Position, { signal: _, ...options }: WatchOptions = {}): AsyncIterable<JournalCommit> {
    return this.inner.watch(from, options);
  }
}

class RepeatsTheLastOfAPage extends Through {
  override async list(prefix: string, { after, ...options }: ListOptions = {}): Promise<Snapshot> {
    if (after === undefined) return this.inner.list(prefix, options);
    const { limit = Infinity, ...rest } = options;
    const { revision, entries } = await this.inner.list(prefix, rest);
    return { revision, entries: entries.filter(({ key }) => key >= after).slice(0, limit) };
  }
}

class ListsOnlyFolders extends Through {
  override list(prefix: string, options?: ListOptions): Promise<Snapshot> {
    return this.inner.list(prefix === 'a' ? 'a/' : prefix, options);
  }
}

class StaysOpen extends Through {
  override async close(): Promise<void> {}
}

const broken = (wrap: new (inner: Journal, store: MemoryStore) => Journal): MakeSubject => memorySubject((inner, store) => new wrap(inner, store));

/** Opens a copy of the store without its last commit. */
const losesTheLastCommit = memorySubject(undefined, (store) => {
  store.log.pop();
  return store;
});

const beginsAnotherHistory = memorySubject(undefined, (store) => {
  const other = new MemoryStore();
  other.log.push(...store.log);
  return other;
});

const mutants: Readonly<Record<string, Readonly<Record<string, MakeSubject>>>> = {
  'a commit is made exactly if its conditions hold': {
    'ignores conditions': broken(IgnoresConditions),
    'checks conditions too early': broken(ChecksTooEarly),
    'blames the last condition': broken(BlamesTheLastCondition),
  },
  'revisions follow real time': { 'reuses a revision': broken(ReusesARevision) },
  'all events of a revision arrive together': { 'splits a revision': broken(SplitsARevision) },
  'a snapshot and the watch from it give the state': {
    'skips an event': broken(SkipsAnEvent),
    'lists the present as the past': broken(ListsThePresentAsThePast),
    'lists half a commit': broken(ListsHalfACommit),
  },
  'a watch has no gap and no repetition, from wherever it resumes': {
    'repeats on resume': broken(RepeatsOnResume),
    'skips a revision': broken(SkipsARevision),
  },
  'takes are evaluated in order and never pass the limit': {
    'takes one too many': broken(TakesOneTooMany),
    'takes the same twice': broken(TakesTheSameTwice),
    'keeps takes of a conflict': broken(KeepsTakesOfAConflict),
  },
  'a conflict changes nothing': { 'writes despite a conflict': broken(WritesDespiteAConflict) },
  'limits are enforced before anything is sent': { 'notices limits too late': broken(NoticesLimitsTooLate) },
  'a malformed change is refused': {
    'takes the last of two puts': broken(TakesTheLastOfTwo),
    'mends keys': broken(MendsKeys),
  },
  'a commit whose answer is lost can be resolved': {
    'resolves as absent': broken(ResolvesAsAbsent),
    'resolves to the latest': broken(ResolvesToTheLatest),
    'makes what it calls absent': broken(MakesWhatItCallsAbsent),
  },
  'a slow watcher is cut, with a position from which nothing is lost': {
    'never cuts': broken(NeverCuts),
    'cuts too far on': broken(CutsTooFarOn),
  },
  'compaction keeps the present and all after the horizon, and refuses what is before': {
    'compacts a key away': broken(CompactsOneKeyAway),
    'watches the compacted': broken(WatchesTheCompacted),
    'compacts the young': broken(CompactsTheYoung),
  },
  'what was committed is there after opening again': {
    'loses the last commit': losesTheLastCommit,
    'begins another history': beginsAnotherHistory,
  },
  'a commit is seen by every read after it': { 'answers stale': broken(AnswersStale) },
  'a position outside of the history is refused': {
    'ignores the epoch': broken(IgnoresTheEpoch),
    'waits for the future': broken(WaitsForTheFuture),
  },
  'a signal ends a watch cleanly': { 'ignores the signal': broken(IgnoresTheSignal) },
  'a list can be read in pages': {
    'repeats the last of a page': broken(RepeatsTheLastOfAPage),
    'lists only folders': broken(ListsOnlyFolders),
  },
  'a closed journal ends its watches and takes no calls': { 'stays open': broken(StaysOpen) },
};

test('every law has a journal that breaks it', (t) => {
  t.deepEqual(Object.keys(mutants), laws.map(({ name }) => name));
});

for (const [name, journals] of Object.entries(mutants)) {
  for (const [what, make] of Object.entries(journals)) {
    test.serial(`a journal that ${what} breaks: ${name}`, async (t) => {
      const failures = new Map<string, unknown>();
      for (const law of laws) await law.check(make).catch((error: unknown) => failures.set(law.name, error));
      t.deepEqual([...failures.keys()], [name], [...failures.values()].map(String).join('\n\n'));
    });
  }
}
