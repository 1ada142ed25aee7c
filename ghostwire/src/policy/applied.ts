// A policy applied to a tailnet: what it means there, and whether its own tests hold.

import { GhostwireError } from '../errors.js';
import type { PolicyDocument } from './document.js';
import type { Grant } from './grants.js';
import { reachOf, type Reach } from './reach.js';
import type { Names } from './selectors.js';
import { ALL_PORTS } from './services.js';
import { SshPolicy } from './ssh.js';
import { runSshTests } from './ssh-tests.js';
import type { Tailnet } from './tailnet.js';
import { runTests, type TestFailure } from './tests.js';

/** What neither acls nor grants means. */
const ALLOW_ALL: Grant = {
  sources: [{ kind: 'any', text: '*' }],
  destinations: [{ kind: 'any', text: '*' }],
  services: [{ protocol: undefined, ports: [ALL_PORTS] }],
  capabilities: undefined,
  via: [],
  line: 1,
};

export const reachesOf = ({ grants }: PolicyDocument, tailnet: Tailnet): Reach[] => reachOf(grants ?? [ALLOW_ALL], tailnet);

/** The names that tests may use. */
const namesOf = ({ groups, hosts, tagOwners }: PolicyDocument): Names => ({ groups, hosts, tagOwners, domains: undefined });

/** What of `tests` and `sshTests` does not hold; nothing when all is as they say. Takes no longer for what they do not name. */
export function failedTests(document: PolicyDocument, tailnet: Tailnet): TestFailure[] {
  const names = namesOf(document);
  const failures = runTests(document.tests, names, tailnet, document.grants);
  if (document.sshTests.length === 0) return failures;
  return [...failures, ...runSshTests(document.sshTests, names, tailnet, new SshPolicy(document.ssh, tailnet, ''))];
}

/** The error of a policy whose own tests fail: `details.failures` are the first hundred, with their lines. */
export function testsFailed(failures: readonly TestFailure[]): GhostwireError {
  const [first] = failures;
  const reason = 'test(s) failed';
  const line = first?.line ?? 1;
  const more = failures.length > 1 ? ` (and ${failures.length - 1} more)` : '';
  return new GhostwireError('ERR_POLICY_INVALID', `line ${line}, column 1: ${reason}: ${first?.message ?? ''}${more}`, {
    line,
    column: 1,
    reason,
    failures: failures.slice(0, 100),
  });
}
