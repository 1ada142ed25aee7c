// The filter, and what must never reach a log.

import test from 'ava';
import { createLog, levelOf, parseLogFilter } from '../src/log.js';

test('the longest target that fits decides', (t) => {
  const filter = parseLogFilter('info,ghostwire::api=debug,ghostwire=warn,ghostwire_sync=trace');
  t.is(levelOf(filter, 'ghostwire::api'), 'debug');
  t.is(levelOf(filter, 'ghostwire::api::rest'), 'debug');
  t.is(levelOf(filter, 'ghostwire::apiary'), 'warn');
  t.is(levelOf(filter, 'ghostwire_sync'), 'trace');
  t.is(levelOf(filter, 'zqlite'), 'info');
  t.is(levelOf(parseLogFilter('ghostwire::api=debug'), 'zqlite'), 'error');
  t.is(levelOf(parseLogFilter('OFF'), 'zqlite'), 'off');
});

test('a wrong level names the nearest', (t) => {
  t.throws(() => parseLogFilter('info,ghostwire=debgu'), { message: /debgu.*debug/ });
  t.throws(() => parseLogFilter('inf'), { message: /info/ });
});

function capture(filter: string, write: (log: ReturnType<typeof createLog>) => void): string {
  let text = '';
  write(createLog(filter, { write: (line: string) => void (text += line) }));
  return text;
}

test('levels hold by target', (t) => {
  const text = capture('warn,ghostwire::api=debug', (log) => {
    log('ghostwire').info('hidden');
    log('ghostwire::api').debug({ n: 1 }, 'shown');
  });
  t.deepEqual(
    text
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { msg: string; level: string; target: string }).msg),
    ['shown'],
  );
  t.like(JSON.parse(text), { level: 'debug', target: 'ghostwire::api', n: 1 });
});

test('secrets are blanked wherever they stand', (t) => {
  const secret = 'b'.repeat(32);
  const key = `gw_admin_${'a'.repeat(16)}_${secret}`;
  const text = capture('info', (log) => {
    log('x').info({ authorization: `Bearer ${key}`, body: { preauthKey: key, token: 'opaque' } }, `with ${key} in the message`);
    log('x').error({ err: new Error(`failed for ${key}`) });
  });
  t.notRegex(text, new RegExp(secret));
  t.notRegex(text, /opaque/);
  t.regex(text, /gw_admin_a{16}_\*\*\*/, 'the id stays, to find the key by');
});
