// A commit whose outcome is known: what the domain calls instead of `journal.commit`.

import { GhostwireError } from './errors.js';
import type { Change, CommitResult, Journal } from './journal/journal.js';

/** What can stand between a commit and its success. */
export type Conflict = Extract<CommitResult, { status: 'conflict' }>;
export type Committed = { readonly status: 'committed'; readonly revision: number; readonly taken: readonly number[] };

/**
 * Commits, and asks the journal again when the outcome was unknown.
 * @throws GhostwireError ERR_OUTCOME_UNKNOWN when it stays unknown, ERR_CONTENTION when the commit is known to be absent.
 */
export async function commit(journal: Journal, change: Change): Promise<Committed | Conflict> {
  const result = await journal.commit(change);
  if (result.status !== 'unknown') return result;
  const { id } = result;
  let outcome;
  try {
    outcome = await journal.resolve(id);
  } catch (cause) {
    throw new GhostwireError('ERR_OUTCOME_UNKNOWN', `the journal cannot say whether commit ${id} is durable`, { commit: id }, { cause });
  }
  if (outcome.status === 'committed') return { status: 'committed', revision: outcome.revision, taken: [] };
  throw new GhostwireError('ERR_CONTENTION', `commit ${id} was not made`, { commit: id });
}

/** Times that a change is built again after others changed the same records first. */
const ATTEMPTS = 8;

/**
 * Repeats read-modify-commit until nobody interferes. `attempt` builds the change from the newest state and returns its
 * value, or undefined when it met a conflict.
 * @throws GhostwireError ERR_CONTENTION after several conflicts in a row
 */
export async function untilCommitted<T>(what: string, attempt: () => Promise<T | undefined>): Promise<T> {
  for (let count = 0; count < ATTEMPTS; count += 1) {
    const value = await attempt();
    if (value !== undefined) return value;
  }
  throw new GhostwireError('ERR_CONTENTION', `${what}: others changed the same records ${ATTEMPTS} times in a row`);
}
