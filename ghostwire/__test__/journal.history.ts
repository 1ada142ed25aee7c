// Judges what concurrent clients of a journal were told, by replaying the log: O(n) in calls and events.
//
// Clients record each call with what they knew before and after it. Nothing of the journal itself is trusted but its
// log, and that the log is what the clients' answers say.

import assert from 'node:assert/strict';
import { COUNTERS } from '../src/journal/journal.js';
import type { Change, CommitResult, Condition, Journal, JournalCommit, JsonValue, Take } from '../src/journal/journal.js';

export interface Call {
  readonly change: Change;
  /** With an unknown outcome resolved, or left unknown. */
  readonly result: CommitResult;
  /** The highest revision that any client had been told of when the call began. */
  readonly floor: number;
  /** The latest revision when the call had ended. */
  readonly ceiling: number;
}

/** Makes calls and remembers them. One for all clients. */
export class Recorder {
  readonly calls: Call[] = [];
  #acknowledged = 0;

  async commit(journal: Journal, change: Change): Promise<CommitResult> {
    const floor = this.#acknowledged;
    const result = await journal.commit(change);
    if (result.status === 'committed') this.#acknowledged = Math.max(this.#acknowledged, result.revision);
    const ceiling = result.status === 'committed' ? result.revision : await journal.revision();
    this.calls.push({ change, result, floor, ceiling });
    return result;
  }
}

/** What a key held over time: [revision, revision of the value or undefined when there is none, value]. */
type Versions = [revision: number, put: number | undefined, value: JsonValue | undefined][];

class Replay {
  readonly #keys = new Map<string, Versions>();

  constructor(log: readonly JournalCommit[]) {
    for (const { revision, events } of log) {
      for (const event of events) {
        let versions = this.#keys.get(event.key);
        if (versions === undefined) this.#keys.set(event.key, (versions = [[0, undefined, undefined]]));
        versions.push('value' in event ? [revision, revision, event.value] : [revision, undefined, undefined]);
      }
    }
  }

  /** Versions of a key that were current at some revision from `low` to `high`. */
  during(key: string, low: number, high: number): Versions {
    const versions = this.#keys.get(key) ?? [[0, undefined, undefined]];
    let start = 0;
    for (let end = versions.length; end - start > 1; ) {
      const middle = (start + end) >> 1;
      if (versions[middle]![0] <= low) start = middle;
      else end = middle;
    }
    let end = start + 1;
    while (end < versions.length && versions[end]![0] <= high) end += 1;
    return versions.slice(start, end);
  }

  holds(condition: Condition, low: number, high: number): boolean[] {
    return this.during(condition.key, low, high).map(([, put]) => ('absent' in condition ? put === undefined : put === condition.revision));
  }

  held(counter: string, low: number, high: number): number[] {
    return this.during(COUNTERS + counter, low, high).map(([, , value]) => Number(value ?? 0));
  }
}

const isTake = (failed: Condition | Take): failed is Take => 'counter' in failed;

/** @throws AssertionError naming the first call whose answer does not fit the log, which begins at revision 1 */
export function checkHistory(calls: readonly Call[], log: readonly JournalCommit[]): void {
  log.forEach(({ revision }, i) => assert.equal(revision, i + 1, `the log has revision ${revision} where ${i + 1} belongs`));
  const replay = new Replay(log);
  const owners = new Map<number, Call>();

  for (const call of calls) {
    const { change, result, floor, ceiling } = call;
    if (result.status === 'committed') {
      const { revision, taken } = result;
      assert(!owners.has(revision), `revision ${revision} was given to two commits`);
      owners.set(revision, call);
      assert(revision > floor, `revision ${revision} was given to a commit that began after ${floor} was acknowledged`);
      for (const condition of change.conditions ?? []) {
        assert.deepEqual(replay.holds(condition, revision - 1, revision - 1), [true], `${JSON.stringify(condition)} did not hold at ${revision}`);
      }
      change.takes?.forEach(({ counter, n, limit }, i) => {
        assert.equal(taken[i], replay.held(counter, revision - 1, revision - 1)[0]! + n, `taken from ${counter} at ${revision}`);
        assert(taken[i]! <= limit, `${counter} passed its limit at ${revision}`);
      });
      assert.deepEqual(
        log[revision - 1]?.events,
        [
          ...(change.takes ?? []).map(({ counter }, i) => ({ key: COUNTERS + counter, value: taken[i] })),
          ...(change.puts ?? []),
          ...(change.deletes ?? []).map((key) => ({ key, deleted: true })),
        ],
        `the events of ${revision} are not what was committed`,
      );
    } else if (result.status === 'conflict') {
      const { failed } = result;
      const when = `between ${floor} and ${ceiling}`;
      if (isTake(failed)) {
        const held = replay.held(failed.counter, floor, ceiling);
        assert(held.some((value) => value + failed.n > failed.limit), `${JSON.stringify(failed)} was refused but possible ${when}`);
      } else {
        assert(replay.holds(failed, floor, ceiling).includes(false), `${JSON.stringify(failed)} was refused but held ${when}`);
      }
    }
  }
  const unknown = calls.filter(({ result }) => result.status === 'unknown').length;
  assert(log.length - owners.size <= unknown, `the log has ${log.length} commits, of which ${owners.size} were acknowledged`);
}
