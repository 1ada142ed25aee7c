// The keys of a new network: made once, with the first start, so that there is somebody who may do anything at all.

import { commit } from '../commit.js';
import type { Journal } from '../journal/journal.js';
import type { Replica } from '../replica.js';
import type { AdminKeys } from './admin.js';
import type { PreauthKeys } from './preauth.js';

/** Texts of keys; they exist nowhere else. */
export interface FirstKeys {
  readonly adminKey: string;
  readonly preauthKey: string;
}

/** Present since the first start. */
const MARK = 'setup/first-keys';

const DAY = 86_400_000;

/** Enough for a first network, and no standing invitation. */
const FIRST_USES = 100;
const FIRST_LIFETIME = 30 * DAY;

/** Makes them in one commit; undefined when they were made before. */
export async function makeFirstKeys(
  journal: Journal,
  replica: Replica,
  adminKeys: AdminKeys,
  preauthKeys: PreauthKeys,
): Promise<FirstKeys | undefined> {
  if ((await journal.get(MARK)) !== undefined) return undefined;
  const admin = adminKeys.prepare({ description: 'first admin key', expiresAt: null });
  const preauth = preauthKeys.prepare({
    description: 'first pre-auth key',
    expiresAt: Date.now() + FIRST_LIFETIME,
    maxUses: FIRST_USES,
    tags: [],
    user: null,
  });
  const parts = [admin.change, preauth.change];
  const result = await commit(journal, {
    conditions: [{ key: MARK, absent: true }, ...parts.flatMap((part) => part.conditions ?? [])],
    puts: [{ key: MARK, value: { at: Date.now() } }, ...parts.flatMap((part) => part.puts ?? [])],
  });
  if (result.status === 'conflict') return undefined;
  await replica.settled(result.revision);
  return { adminKey: admin.text, preauthKey: preauth.text };
}
