// docs/errors.md and the code list the same errors, and every failure answers in one shape.

import { readFileSync } from 'node:fs';
import test from 'ava';
import { CATALOGUE, GhostwireError, toResponse } from '../src/errors.js';

/** The rows of the table under "## Ghostwire". */
function documented(): string[][] {
  const text = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');
  const section = text.split(/^## /m).find((part) => part.startsWith('Ghostwire'));
  return (section ?? '')
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

test('docs/errors.md says what the catalogue says', (t) => {
  const expected = Object.entries(CATALOGUE).map(([code, { status, retryable, description }]) => [
    `\`${code}\``,
    status === null ? '–' : String(status),
    retryable ? 'yes' : 'no',
    description,
  ]);
  t.deepEqual(documented(), expected);
});

test('an error carries its code, whether to retry, details and cause', (t) => {
  const cause = new Error('below');
  const error = new GhostwireError('ERR_NAME_TAKEN', 'the name web is taken', { name: 'web' }, { cause });
  t.true(error instanceof Error);
  t.like(error, { code: 'ERR_NAME_TAKEN', retryable: false, cause, message: 'the name web is taken' });
  t.deepEqual(toResponse(error), {
    status: 409,
    body: { error: { code: 'ERR_NAME_TAKEN', message: 'the name web is taken', retryable: false, details: { name: 'web' } } },
  });
});

test("zqlite's errors keep their code and get a status", (t) => {
  const full = Object.assign(new Error('disk full'), { code: 'ERR_DISK_FULL', retryable: true });
  t.like(toResponse(full), { status: 507, body: { error: { code: 'ERR_DISK_FULL', retryable: true } } });
  const odd = Object.assign(new Error('odd'), { code: 'ERR_SQL', retryable: false });
  t.is(toResponse(odd).status, 500);
});

test('the message of an unexpected error stays inside', (t) => {
  const { status, body } = toResponse(new TypeError('cannot read gw_admin_secret'));
  t.is(status, 500);
  t.is(body.error.code, 'ERR_SERVER');
  t.notRegex(body.error.message, /secret/);
});
