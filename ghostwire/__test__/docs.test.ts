// The documentation names every setting, and no other.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { loadConfig, SETTINGS } from '../src/config.js';
import { temporaryFolder } from './support/process.js';

const page = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');

test('the configurations that docs/operations.md shows can be used', (t) => {
  const examples = [...page.matchAll(/```toml\n([^]*?)```/g)].map(([, example = '']) => example);
  t.true(examples.length >= 2);
  for (const example of examples) {
    const file = join(temporaryFolder(), 'ghostwire.toml');
    writeFileSync(file, example);
    t.notThrows(() => loadConfig({ file }), example);
  }
});

test('docs/operations.md lists the settings as they are', (t) => {
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
