// The documentation names every setting, and no other.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { loadConfig, SETTINGS } from '../src/config.js';
import { runHere, temporaryFolder } from './support/process.js';

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

/** `ghostwire a b --flag`, wherever a page writes it as code. */
function commandsOf(text: string): { words: string[]; flags: string[] }[] {
  const code = [...text.matchAll(/```sh[^\n]*\n([^]*?)```/g)].flatMap(([, block = '']) => block.split('\n')).concat([...text.matchAll(/`([^`\n]+)`/g)].map(([, inline = '']) => inline));
  return code.flatMap((line) => {
    const [, found] = /(?:^|\bsudo )ghostwire ([^#|>]+)/.exec(line) ?? [];
    if (found === undefined) return [];
    const words = found.trim().split(/\s+/);
    const end = words.findIndex((word) => !/^[a-z][a-z-]*$/.test(word));
    return [{ words: words.slice(0, end < 0 ? words.length : end), flags: words.filter((word) => word.startsWith('--')).map((flag) => flag.split('=', 1)[0] ?? '') }];
  });
}

for (const name of ['docs/from-headscale.md', 'ghostwire/README.md', 'docs/operations.md', 'docs/policy-operations.md', 'README.md']) {
  test.serial(`the commands that ${name} names exist, with their flags`, async (t) => {
    const commands = commandsOf(readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8'));
    t.true(commands.length >= 3);
    const helps = new Map<string, string>();
    for (const { words, flags } of commands) {
      // What follows a command without subcommands are its arguments.
      let [path, key]: [string[], string] = [[], ''];
      for (const [place, word] of words.entries()) {
        if (place > 0 && !new RegExp(`^  (?:\\S+\\|)?${word}(?:\\||\\s|$)`, 'm').test(helps.get(key) ?? '')) break;
        path = words.slice(0, place + 1);
        key = path.join(' ');
        if (!helps.has(key)) helps.set(key, (await runHere([...path, '--help'])).stdout);
        t.regex(helps.get(key) ?? '', new RegExp(`^Usage: ghostwire ${path.map((part) => `(?:\\S+\\|)?${part}(?:\\|\\S+)?`).join(' ')} `, 'm'), `ghostwire ${key}`);
      }
      for (const flag of flags) t.true(new RegExp(`^ +(?:-\\w, )?${flag}(?: |$)`, 'm').test(helps.get(key) ?? ''), `ghostwire ${key} ${flag}`);
    }
  });
}
