// The documentation names every setting, and no other.

import { readFileSync } from 'node:fs';
import test from 'ava';
import { SETTINGS } from '../src/config.js';

test('docs/operations.md lists the settings as they are', (t) => {
  const page = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  const documented = [...page.matchAll(/^\| `(\w+\.\w+)` \| `(\w+)` \| (.*) \|$/gm)].map(([, name, variable, description]) => ({
    name,
    variable,
    description,
  }));
  t.deepEqual(
    documented,
    SETTINGS.map(({ name, variable, description }) => ({ name, variable, description })),
  );
});
