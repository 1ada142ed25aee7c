// SQL tables that follow a part of the keys: written in the commit's own transaction, so never ahead and never behind.
//
// The tables are derived: whenever the file does not record exactly this version of a projection, its tables are
// dropped and built again from the log. That includes a projection that was left out for a while, since commits
// made meanwhile passed it by.

import type { BatchStatement, Database } from 'zqlite';
import { GhostwireError } from '../errors.js';
import { checkPrefix } from './checks.js';
import { COUNTERS } from './journal.js';
import type { JsonValue } from './journal.js';
import { readList } from './log.js';

export interface Projection {
  /** Unlike every other's. */
  readonly name: string;
  /** To be raised with every change of the statements. */
  readonly version: number;
  /** Which keys it follows. Counters cannot be followed: their value is not known before the commit. */
  readonly prefix: string;
  /** Creates the tables; the names should begin with the projection's. */
  readonly create: readonly string[];
  /** Removes what any version created: `DROP TABLE IF EXISTS`. */
  readonly drop: readonly string[];
  /** What to run when a key is put. Keep the SQL text constant and the values in `params`, so that it is prepared once. */
  readonly put: (key: string, value: JsonValue) => readonly BatchStatement[];
  readonly delete: (key: string) => readonly BatchStatement[];
}

const KEYS_PER_BATCH = 256;

function check(projections: readonly Projection[]): void {
  const names = new Set<string>();
  for (const { name, version, prefix } of projections) {
    checkPrefix(prefix);
    const problem = names.has(name)
      ? 'is registered twice'
      : !Number.isSafeInteger(version)
        ? `has version ${version}, not a whole number`
        : prefix.startsWith(COUNTERS) || COUNTERS.startsWith(prefix)
          ? `follows prefix "${prefix}", which holds counters`
          : undefined;
    if (problem !== undefined) throw new GhostwireError('ERR_JOURNAL_PROJECTION', `projection ${name} ${problem}`, { name });
    names.add(name);
  }
}

async function build(db: Database, { name, version, prefix, create, drop, put }: Projection): Promise<void> {
  // Forgotten first and recorded last: a build that is cut short is begun again.
  const forget = { sql: 'DELETE FROM journal_projection WHERE name = ?', params: [name] };
  await db.executeBatchTransaction([forget, ...[...drop, ...create].map((sql) => ({ sql }))]);
  let next: string | undefined = '';
  while (next !== undefined) {
    const page = await readList(db, prefix, next, undefined, KEYS_PER_BATCH);
    const statements = page.entries.flatMap(({ key, value }) => put(key, value));
    if (statements.length > 0) await db.executeBatchTransaction(statements);
    next = page.next;
  }
  await db.execute('INSERT INTO journal_projection VALUES (?, ?)', [name, version]);
}

/** The projections of one open journal. */
export class Projections {
  readonly #projections: readonly Projection[];

  private constructor(projections: readonly Projection[]) {
    this.#projections = projections;
  }

  /**
   * Brings every projection's tables up to the log. No commit may be made meanwhile.
   * @throws ERR_JOURNAL_PROJECTION for one that cannot be followed
   */
  static async open(db: Database, projections: readonly Projection[]): Promise<Projections> {
    check(projections);
    const recorded = new Map(
      (await db.query<{ name: string; version: number }>('SELECT name, version FROM journal_projection')).map(
        ({ name, version }) => [name, version],
      ),
    );
    for (const name of recorded.keys()) {
      if (projections.some((projection) => projection.name === name)) continue;
      await db.execute('DELETE FROM journal_projection WHERE name = ?', [name]);
    }
    for (const projection of projections) {
      if (recorded.get(projection.name) !== projection.version) await build(db, projection);
    }
    return new Projections(projections);
  }

  /** What to run in the batch of a commit that puts `json` at `key`, or deletes it (null). */
  statements(key: string, json: string | null): BatchStatement[] {
    const statements: BatchStatement[] = [];
    for (const projection of this.#projections) {
      if (!key.startsWith(projection.prefix)) continue;
      // Parsed again, so that a projection sees the value as a rebuild would.
      statements.push(...(json === null ? projection.delete(key) : projection.put(key, JSON.parse(json) as JsonValue)));
    }
    return statements;
  }
}
