// Where values come from, which wins, and what wrong ones say.

import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parse } from 'smol-toml';
import { formatConfig, loadConfig, SETTINGS, type ConfigInput } from '../src/config.js';
import { GhostwireError, type GhostwireErrorCode } from '../src/errors.js';
import { formatDuration, formatSize, parseDuration, parseSize } from '../src/units.js';

function file(text: string): string {
  const path = join(mkdtempSync(join(tmpdir(), 'ghostwire-config-')), 'gw.toml');
  writeFileSync(path, text);
  return path;
}

function refused(t: ExecutionContext, input: ConfigInput, code: GhostwireErrorCode, ...parts: RegExp[]): void {
  const error = t.throws(() => loadConfig(input), { instanceOf: GhostwireError });
  t.is(error.code, code, error.message);
  for (const part of parts) t.regex(error.message, part);
}

test('defaults', (t) => {
  const { config, sources } = loadConfig();
  t.like(config.server, { host: '127.0.0.1', port: 8080, metrics_port: 8081, sync_port: 8082 });
  t.is(config.pool.connection_timeout, 30_000);
  t.is(config.network.ipv4, '100.64.0.0/10');
  t.is(sources.get('server.port'), 'default');
});

test('a flag wins over the environment, that over the file, that over the default', (t) => {
  const path = file('[server]\nport = 1001\nmetrics_port = 1002\nsync_port = 1003\n');
  const { config, sources } = loadConfig({
    file: path,
    environment: { GHOSTWIRE_SERVER_METRICS_PORT: '2002', GHOSTWIRE_SERVER_SYNC_PORT: '2003', HOME: '/ignored' },
    flags: { '--server-sync-port': '3003' },
  });
  t.deepEqual([config.server.port, config.server.metrics_port, config.server.sync_port], [1001, 2002, 3003]);
  t.is(sources.get('server.port'), `${path}:2`);
  t.is(sources.get('server.metrics_port'), 'GHOSTWIRE_SERVER_METRICS_PORT');
  t.is(sources.get('server.sync_port'), '--server-sync-port');
});

test('every value of the file arrives, with its units', (t) => {
  const path = file(`
    [database]
    path = "/var/lib/gw.db"
    cache_size = "512MB"
    parallel_writes = false
    wal_limit = "128MB"
    max_read_age = "5s"
    pragmas = { mmap_size = 1048576 }
    [pool]
    min_connections = 2
    max_connections = 8
    connection_timeout = "250ms"
    idle_timeout = "10m"
    max_lifetime = 3600000
    health_check_interval = "1.5s"
    [log]
    filter = "info,ghostwire::api=debug"
  `);
  const { config } = loadConfig({ file: path });
  t.deepEqual(config.database, {
    path: '/var/lib/gw.db',
    cache_size: 512 * 2 ** 20,
    parallel_writes: false,
    wal_limit: 128 * 2 ** 20,
    max_read_age: 5_000,
    pragmas: { mmap_size: 1_048_576 },
    limits: {},
    attach: {},
    extensions: [],
  });
  t.deepEqual(config.pool, {
    min_connections: 2,
    max_connections: 8,
    connection_timeout: 250,
    idle_timeout: 600_000,
    max_lifetime: 3_600_000,
    health_check_interval: 1_500,
  });
  t.is(config.log.filter, 'info,ghostwire::api=debug');
});

test('the file may come from GHOSTWIRE_CONFIG, and the database from GHOSTWIRE_DB_PATH', (t) => {
  const path = file('[database]\npath = "a.db"\ncache_size = "1MiB"\n');
  const { config, sources } = loadConfig({ environment: { GHOSTWIRE_CONFIG: path, GHOSTWIRE_DB_PATH: 'b.db' } });
  t.is(config.database.path, 'b.db');
  t.is(config.database.cache_size, 1_048_576);
  t.is(sources.get('database.path'), 'GHOSTWIRE_DB_PATH');
});

test('RUST_LOG sets the filter unless something of ours does', (t) => {
  t.is(loadConfig({ environment: { RUST_LOG: 'debug' } }).config.log.filter, 'debug');
  t.is(loadConfig({ environment: { RUST_LOG: 'debug', GHOSTWIRE_LOG_FILTER: 'warn' } }).config.log.filter, 'warn');
});

test('unknown names are errors that name the nearest right one and the place', (t) => {
  const path = file('[database]\npath = "a.db"\n\n[pool]\n# a comment\nmax_conections = 3\n');
  refused(t, { file: path }, 'ERR_CONFIG_UNKNOWN', /gw\.toml:6/, /pool\.max_conections/, /pool\.max_connections\?/);
  refused(t, { file: file('[databse]\npath = "a"\n') }, 'ERR_CONFIG_UNKNOWN', /gw\.toml:1/, /\[database\]\?/);
  refused(t, { file: file('server.prot = 1\n') }, 'ERR_CONFIG_UNKNOWN', /gw\.toml:1/, /server\.port\?/);
  refused(t, { environment: { GHOSTWIRE_DB_PAHT: 'x' } }, 'ERR_CONFIG_UNKNOWN', /GHOSTWIRE_DB_PAHT/, /GHOSTWIRE_DB_PATH\?/);
  refused(t, { environment: { GHOSTWIRE_ADMINKEY: 'x' } }, 'ERR_CONFIG_UNKNOWN', /GHOSTWIRE_ADMIN_KEY\?/);
  refused(t, { flags: { '--server-prot': '1' } }, 'ERR_CONFIG_UNKNOWN', /--server-prot/, /--server-port\?/);
  // What is far away would mislead.
  refused(t, { file: file('qqqqqq = 1\n') }, 'ERR_CONFIG_UNKNOWN', /unknown section \[qqqqqq\]$/);
});

test('malformed values are errors that name the key, the place and the form wanted', (t) => {
  refused(t, { file: file('[server]\nport = "http"\n') }, 'ERR_CONFIG', /gw\.toml:2/, /server\.port/, /0 to 65535/, /"http"/);
  refused(t, { file: file('[server]\nport = 65536\n') }, 'ERR_CONFIG', /server\.port/);
  refused(t, { file: file('[server]\nport = 80.5\n') }, 'ERR_CONFIG', /server\.port/);
  refused(t, { file: file('[pool]\nidle_timeout = "10 parsecs"\n') }, 'ERR_CONFIG', /pool\.idle_timeout/, /'30s'/);
  refused(t, { file: file('[database]\ncache_size = -1\n') }, 'ERR_CONFIG', /database\.cache_size/, /512MB/);
  refused(t, { file: file('[database]\nparallel_writes = "yes"\n') }, 'ERR_CONFIG', /true or false/);
  refused(t, { file: file('server = 3\n') }, 'ERR_CONFIG', /\[server\]/);
  refused(t, { environment: { GHOSTWIRE_SERVER_PORT: '' } }, 'ERR_CONFIG', /GHOSTWIRE_SERVER_PORT/);
  refused(t, { environment: { GHOSTWIRE_NETWORK_IPV4: '100.64.0.1/10' } }, 'ERR_CONFIG', /network\.ipv4/, /host bits/);
  refused(t, { environment: { GHOSTWIRE_NETWORK_IPV4: 'fd00::/48' } }, 'ERR_CONFIG', /network\.ipv4/);
  refused(t, { environment: { GHOSTWIRE_NETWORK_IPV6: 'fd00::/97' } }, 'ERR_CONFIG', /network\.ipv6/);
  refused(t, { environment: { GHOSTWIRE_NETWORK_DOMAIN: 'Not A Name' } }, 'ERR_CONFIG', /network\.domain/);
  refused(t, { flags: { '--log-filter': 'info,ghostwire=loud' } }, 'ERR_CONFIG', /--log-filter/, /loud/);
  refused(t, { flags: { '--server-public-url': 'ftp://x' } }, 'ERR_CONFIG', /server\.public_url/);
});

test('values that contradict each other are errors', (t) => {
  refused(t, { flags: { '--port': '9000', '--sync-port': '9000' } }, 'ERR_CONFIG', /server\.sync_port and server\.port are both 9000/);
  t.notThrows(() => loadConfig({ flags: { '--port': '0', '--sync-port': '0', '--metrics-port': '0' } }));
  refused(t, { flags: { '--pool-min-connections': '9', '--pool-max-connections': '8' } }, 'ERR_CONFIG', /min_connections/);
});

test('a file that cannot be read or parsed is named, with the line', (t) => {
  refused(t, { file: '/nowhere/gw.toml' }, 'ERR_CONFIG', /\/nowhere\/gw\.toml/, /ENOENT/);
  refused(t, { file: file('[server]\nport = = 3\n') }, 'ERR_CONFIG', /gw\.toml:2/);
});

test('the printed configuration is one that can be read back', (t) => {
  const loaded = loadConfig({ flags: { '--port': '9999', '--pool-idle-timeout': '90s', '--database-cache-size': '1536' } });
  const text = formatConfig(loaded);
  t.regex(text, /port = 9999 +# --port/);
  t.regex(text, /idle_timeout = "90s"/);
  t.is(Object.values(parse(text)).flatMap((section) => Object.keys(section)).length, SETTINGS.length);
  t.deepEqual(loadConfig({ file: file(text) }).config, loaded.config);
});

test('tables and lists, from every place', (t) => {
  const written = file('[database]\nextensions = ["a.so"]\n\n[database.pragmas]\nmmap_size = 1048576\n\n[database.attach]\narchive = "old.db"\n');
  const loaded = loadConfig({ file: written, environment: { GHOSTWIRE_DB_LIMITS: '{"attached":3}' } });
  const { pragmas, attach, extensions, limits } = loaded.config.database;
  t.deepEqual([pragmas, attach, extensions, limits], [{ mmap_size: 1_048_576 }, { archive: 'old.db' }, ['a.so'], { attached: 3 }]);
  t.regex(loaded.sources.get('database.pragmas') ?? '', /gw\.toml:4$/);
  t.deepEqual(loadConfig({ file: file(formatConfig(loaded)) }).config, loaded.config);
  refused(t, { file: file('[database]\npragmas = 5\n') }, 'ERR_CONFIG', /database\.pragmas must be a table/);
  refused(t, { flags: { '--database-extensions': 'a.so' } }, 'ERR_CONFIG', /--database-extensions: database\.extensions must be a list/);
});

test('durations and sizes', (t) => {
  t.deepEqual(['30s', '10m', '12h', '7d', '250', '0.5s'].map(parseDuration), [30_000, 600_000, 43_200_000, 604_800_000, 250, 500]);
  t.deepEqual(['512MB', '64MiB', '1KB', '7'].map(parseSize), [536_870_912, 67_108_864, 1_024, 7]);
  for (const wrong of ['', '-1s', '1 week', '1e3', 's', '99999999999999999d', '1..5s']) t.is(parseDuration(wrong), undefined, wrong);
  for (const value of [0, 1, 999, 1_000, 1_500, 60_000, 90_000, 86_400_000, 123_456_789]) t.is(parseDuration(formatDuration(value)), value);
  for (const value of [0, 1, 1_000, 1_024, 1_536, 64_000_000, 2 ** 30]) t.is(parseSize(formatSize(value)), value);
});

test('pools of addresses, and how long one rests', (t) => {
  t.deepEqual(loadConfig().config.addresses, { pools: [], quarantine: 86_400_000 });
  const path = file('[addresses]\npools = ["100.64.0.0/16", "100.80.0.0/16"]\nquarantine = "90m"\n');
  t.deepEqual(loadConfig({ file: path }).config.addresses, { pools: ['100.64.0.0/16', '100.80.0.0/16'], quarantine: 5_400_000 });
  const { config } = loadConfig({ file: path, environment: { GHOSTWIRE_ADDRESSES_POOLS: '["100.90.0.0/24"]' }, flags: { '--addresses-quarantine': '0' } });
  t.deepEqual(config.addresses, { pools: ['100.90.0.0/24'], quarantine: 0 });
  const pools = (...given: string[]): ConfigInput => ({ flags: { '--addresses-pools': JSON.stringify(given) } });
  refused(t, pools('10.0.0.0/16'), 'ERR_CONFIG', /--addresses-pools/, /10\.0\.0\.0\/16 is not within the network, 100\.64\.0\.0\/10/);
  refused(t, pools('100.64.0.0/16', '100.64.9.0/24'), 'ERR_CONFIG', /100\.64\.9\.0\/24 overlaps the pool 100\.64\.0\.0\/16/);
  refused(t, pools('100.64.0.0/30'), 'ERR_CONFIG', /100\.64\.0\.0\/30 is not an IPv4 prefix of \/8 to \/29/);
  refused(t, pools('100.100.100.0/24'), 'ERR_CONFIG', /is reserved/);
  refused(t, { flags: { '--addresses-pools': '100.64.0.0/16' } }, 'ERR_CONFIG', /a list of strings/);
  refused(t, { file: path, flags: { '--network-ipv4': '10.0.0.0/8' } }, 'ERR_CONFIG', new RegExp(`${path}:2: addresses.pools`));
  refused(t, { flags: { '--network-ipv4': '100.100.100.0/24' } }, 'ERR_CONFIG', /--network-ipv4/, /reserved/);
});
