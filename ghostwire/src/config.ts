// The configuration: what can be set, and where each value came from.
//
// Four places can set a value; a later one wins: the default, the TOML file, the environment, a flag. The schema below is
// the only list of keys: names of variables and flags, validation and the output of `ghostwire config` follow from it.

import { existsSync, readFileSync } from 'node:fs';
import { parse as parseToml, TomlError } from 'smol-toml';
import { Type, type Static } from 'typebox';
import { Value } from 'typebox/value';
import { parsePrefix } from './addresses/ip.js';
import { checkPools, LENGTHS } from './addresses/rules.js';
import { GhostwireError } from './errors.js';
import { parseLogFilter } from './log.js';
import { nearest } from './nearest.js';
import { formatDuration, formatSize, parseDuration, parseSize } from './units.js';

/** How a value is written; numbers in memory are milliseconds or bytes. */
type Unit = 'duration' | 'size';

const duration = (fallback: string, description: string, minimum = 0) =>
  Type.Integer({ minimum, default: parseDuration(fallback), unit: 'duration', description });
const port = (fallback: number, description: string) => Type.Integer({ minimum: 0, maximum: 65_535, default: fallback, description });
const text = (fallback: string, description: string) => Type.String({ default: fallback, maxLength: 4_096, description });
/** A table of names and values, checked by zqlite when the database is opened. */
const table = (description: string) =>
  Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean()]), { default: {}, description });
const prefix = (family: 4 | 6, fallback: string, description: string) => Type.String({ default: fallback, family, description });

const SCHEMA = Type.Object({
  database: Type.Object({
    path: Type.String({ default: 'ghostwire.db', minLength: 1, description: 'The database file; made when missing.' }),
    cache_size: Type.Integer({ default: 64 * 2 ** 20, minimum: 0, unit: 'size', description: 'Page cache of all connections together.' }),
    parallel_writes: Type.Boolean({ default: true, description: 'Let independent writes share a commit.' }),
    wal_limit: Type.Integer({ default: 64 * 2 ** 20, minimum: 4 * 2 ** 20, unit: 'size', description: 'At three quarters of this writes wait until the write-ahead log can begin anew.' }),
    max_read_age: duration('30s', 'A read older than this then ends.'),
    pragmas: table("SQLite's pragmas for every connection, other than those that zqlite sets itself."),
    limits: table("SQLite's run-time limits, by the names that zqlite's documentation has."),
    attach: table('Further database files by the name of their schema.'),
    extensions: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Shared libraries to load into every connection.' }),
  }),
  pool: Type.Object({
    min_connections: Type.Integer({ default: 10, minimum: 1, maximum: 200, description: 'Connections that stay open however long they are idle.' }),
    max_connections: Type.Integer({ default: 100, minimum: 5, maximum: 200, description: 'Connections and waiting slots at most.' }),
    connection_timeout: duration('30s', 'Longest wait for a connection.', 1),
    idle_timeout: duration('10m', 'Idle connections above the minimum close after this.'),
    max_lifetime: duration('30m', 'A connection is replaced after this.', 100),
    health_check_interval: duration('60s', 'How often it is checked that the database can be read.'),
  }),
  server: Type.Object({
    host: text('127.0.0.1', 'Address of all listeners.'),
    port: port(8080, 'REST API; 0 takes any free port.'),
    metrics_port: port(8081, '/metrics, /healthz and /readyz.'),
    sync_port: port(8082, 'Netmaps for peers (WebSocket).'),
    stun_port: port(0, "STUN for peers (UDP); 0 takes the sync port's number."),
    tls_certificate: text('', 'PEM file of the certificate chain; without one the first start makes one, unless plain.'),
    tls_key: text('', "PEM file of the certificate's private key."),
    insecure: Type.Boolean({ default: false, description: 'Serve plain text on other addresses than loopback too.' }),
    public_url: text('', 'How peers reach the REST API, when not at host:port.'),
    public_sync_url: text('', 'How peers reach the sync port, when not at host:sync_port.'),
    connection_token_lifetime: duration('1m', 'A sync connection token not used by then is void.'),
    shutdown_timeout: duration('10s', 'Requests under way are cut after this.'),
  }),
  network: Type.Object({
    ipv4: prefix(4, '100.64.0.0/10', 'Peer addresses are within this prefix, /8 to /29.'),
    ipv6: prefix(6, 'fd7a:115c:a1e0::/48', 'Peer addresses are this prefix, then the IPv4 address in the last 32 bits; /96 or shorter.'),
    domain: text('mesh.internal', 'Peers are named <name>.<domain>.'),
  }),
  addresses: Type.Object({
    pools: Type.Array(Type.String({ minLength: 1 }), {
      default: [],
      maxItems: 256,
      description: 'Prefixes within `network.ipv4` that peers are given addresses of, in this order; none: the whole of it.',
    }),
    quarantine: duration('24h', 'For so long an address is not given to another peer after the one that had it; 0 frees it at once.'),
  }),
  log: Type.Object({
    filter: text('info', 'As RUST_LOG: level, then target=level, separated by commas.'),
  }),
});

export type Config = Static<typeof SCHEMA>;

/** Where a value came from, as one would say it: 'default', 'ghostwire.toml:3', 'GHOSTWIRE_DB_PATH', '--port'. */
export type Source = string;

/** One settable value: its TOML name is `section.key`. */
export interface Setting {
  readonly name: string;
  readonly section: string;
  readonly key: string;
  readonly variable: string;
  readonly flag: string;
  readonly description: string;
  readonly type: 'string' | 'integer' | 'boolean' | 'object' | 'array';
  readonly fallback: unknown;
}

interface KeySchema {
  readonly type: 'string' | 'integer' | 'boolean' | 'object' | 'array';
  readonly default: unknown;
  readonly description: string;
  readonly unit?: Unit;
  readonly family?: 4 | 6;
  readonly minimum?: number;
  readonly maximum?: number;
}

const schemas = new Map<string, KeySchema>();
const settings = new Map<string, Setting>();
for (const [section, { properties }] of Object.entries(SCHEMA.properties)) {
  for (const [key, schema] of Object.entries(properties as unknown as Record<string, KeySchema>)) {
    const name = `${section}.${key}`;
    schemas.set(name, schema);
    settings.set(name, {
      name,
      section,
      key,
      variable: `GHOSTWIRE_${section}_${key}`.toUpperCase(),
      flag: `--${section}-${key}`.replaceAll('_', '-'),
      description: schema.description,
      type: schema.type,
      fallback: schema.default,
    });
  }
}

/** Every setting, in the order of the schema. */
export const SETTINGS: readonly Setting[] = [...settings.values()];

/** Shorter names of the flags and variables that are typed most. */
export const FLAG_ALIASES: Readonly<Record<string, string>> = {
  '--db-path': 'database.path',
  '--host': 'server.host',
  '--port': 'server.port',
  '--metrics-port': 'server.metrics_port',
  '--sync-port': 'server.sync_port',
  '--insecure': 'server.insecure',
};

const VARIABLES = new Map<string, string>();
for (const { name, variable } of SETTINGS) {
  VARIABLES.set(variable, name);
  if (name.startsWith('database.')) VARIABLES.set(variable.replace('_DATABASE_', '_DB_'), name);
}

/** Variables that steer the command line and are no part of the configuration. */
const OTHER_VARIABLES = [
  'GHOSTWIRE_CONFIG',
  'GHOSTWIRE_URL',
  'GHOSTWIRE_ADMIN_KEY',
  'GHOSTWIRE_FINGERPRINT',
  'GHOSTWIRE_DEBUG',
];

const DEFAULT_FILE = 'ghostwire.toml';

export interface ConfigInput {
  /** The environment, normally `process.env`. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Flags given, by the flag's name with its dashes, e.g. `--port`. */
  readonly flags?: Readonly<Record<string, string>>;
  /** The TOML file; without one GHOSTWIRE_CONFIG is read, else ./ghostwire.toml when it exists. */
  readonly file?: string;
}

export interface LoadedConfig {
  readonly config: Config;
  /** By `section.key`. */
  readonly sources: ReadonlyMap<string, Source>;
}

/**
 * Reads the configuration from all places.
 * @throws GhostwireError ERR_CONFIG for malformed values or an unreadable file, ERR_CONFIG_UNKNOWN for names that do not exist.
 */
export function loadConfig(input: ConfigInput = {}): LoadedConfig {
  const environment = input.environment ?? {};
  const values = new Map<string, unknown>();
  const sources = new Map<string, Source>();
  const set = (name: string, value: unknown, source: Source): void => {
    values.set(name, value);
    sources.set(name, source);
  };

  for (const { name, fallback } of SETTINGS) set(name, fallback, 'default');

  const file = input.file ?? environment['GHOSTWIRE_CONFIG'] ?? (existsSync(DEFAULT_FILE) ? DEFAULT_FILE : undefined);
  if (file !== undefined) readFile(file, set);

  // RUST_LOG is honoured because it is what people type; our own variable wins over it.
  const rustLog = environment['RUST_LOG'];
  if (rustLog !== undefined && rustLog !== '') set('log.filter', fromText('log.filter', rustLog, 'RUST_LOG'), 'RUST_LOG');
  for (const [variable, value] of Object.entries(environment)) {
    if (!variable.startsWith('GHOSTWIRE_') || value === undefined || OTHER_VARIABLES.includes(variable)) continue;
    const name = VARIABLES.get(variable);
    if (name === undefined) throw unknown('variable', variable, variable, [...VARIABLES.keys(), ...OTHER_VARIABLES]);
    set(name, fromText(name, value, variable), variable);
  }

  for (const [flag, value] of Object.entries(input.flags ?? {})) {
    const name = FLAG_ALIASES[flag] ?? SETTINGS.find((setting) => setting.flag === flag)?.name;
    if (name === undefined) throw unknown('flag', flag, flag, [...SETTINGS.map((setting) => setting.flag), ...Object.keys(FLAG_ALIASES)]);
    set(name, fromText(name, value, flag), flag);
  }

  const config: Record<string, Record<string, unknown>> = {};
  for (const { name, section, key } of SETTINGS) (config[section] ??= {})[key] = values.get(name);
  const whole: unknown = config;
  if (!Value.Check(SCHEMA, whole)) throw new GhostwireError('ERR_CONFIG', 'the configuration does not have the form of its schema');
  checkTogether(whole, sources);
  return { config: whole, sources };
}

/** The effective configuration as a TOML file whose comments say where each value came from. */
export function formatConfig({ config, sources }: LoadedConfig): string {
  const lines: string[] = [];
  let section = '';
  for (const setting of SETTINGS) {
    if (setting.section !== section) lines.push(...(section === '' ? [] : ['']), `[${setting.section}]`);
    section = setting.section;
    const value = (config as Record<string, Record<string, unknown>>)[section]?.[setting.key];
    lines.push(`${`${setting.key} = ${literal(setting.name, value)}`.padEnd(48)} # ${sources.get(setting.name)}`);
  }
  return `${lines.join('\n')}\n`;
}

function literal(name: string, value: unknown): string {
  const unit = schemas.get(name)?.unit;
  if (unit !== undefined) return JSON.stringify(unit === 'duration' ? formatDuration(Number(value)) : formatSize(Number(value)));
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return JSON.stringify(value);
  const entries = Object.entries(value).map(([key, one]) => `${JSON.stringify(key)} = ${JSON.stringify(one)}`);
  return entries.length === 0 ? '{}' : `{ ${entries.join(', ')} }`;
}

function readFile(file: string, set: (name: string, value: unknown, source: Source) => void): void {
  let source: string;
  let tree: Record<string, unknown>;
  try {
    source = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new GhostwireError('ERR_CONFIG', `cannot read the configuration file ${file}: ${(cause as Error).message}`, { file }, { cause });
  }
  try {
    tree = parseToml(source);
  } catch (cause) {
    const at = cause instanceof TomlError ? `${file}:${cause.line}:${cause.column}` : file;
    const reason = (cause as Error).message.split('\n')[0];
    throw new GhostwireError('ERR_CONFIG', `${at}: ${reason}`, { file }, { cause });
  }

  const sections = Object.keys(SCHEMA.properties);
  for (const [section, values] of Object.entries(tree)) {
    const where = `${file}:${lineOf(source, section)}`;
    if (!sections.includes(section))
      throw unknown(
        'section',
        `[${section}]`,
        where,
        sections.map((name) => `[${name}]`),
      );
    if (typeof values !== 'object' || values === null || Array.isArray(values)) {
      throw new GhostwireError('ERR_CONFIG', `${where}: ${section} must be a table, [${section}]`);
    }
    for (const [key, value] of Object.entries(values)) {
      const name = `${section}.${key}`;
      const place = `${file}:${lineOf(source, section, key)}`;
      if (!settings.has(name)) throw unknown('key', name, place, [...settings.keys()]);
      set(name, fromToml(name, value, place), place);
    }
  }
}

/** The line, from 1, on which a table or one of its keys is written; the parser keeps no positions. */
function lineOf(source: string, section: string, key?: string): number {
  const lines = source.split('\n');
  const bare = (name: string | undefined): string => (name ?? '').trim().replace(/^(["'])(.*)\1$/, '$2');
  let current = '';
  for (const [index, line] of lines.entries()) {
    const header = /^\s*\[([^\]]+)\]/.exec(line);
    if (header !== null) current = (header[1] ?? '').split('.').map(bare).join('.');
    if (header !== null && current === `${section}.${key}`) return index + 1;
    const assigned = /^\s*([^=#[]+?)\s*=/.exec(line);
    const path = assigned === null ? '' : [...(current === '' ? [] : [current]), ...(assigned[1] ?? '').split('.').map(bare)].join('.');
    if (key === undefined ? current === section || path === section || path.startsWith(`${section}.`) : path === `${section}.${key}`)
      return index + 1;
  }
  return 1;
}

function unknown(what: string, given: string, where: string, known: readonly string[]): GhostwireError {
  const near = nearest(given, known);
  const hint = near === undefined ? '' : `; did you mean ${near}?`;
  const at = where === given ? '' : `${where}: `;
  return new GhostwireError('ERR_CONFIG_UNKNOWN', `${at}unknown ${what} ${given}${hint}`, { given, ...(near !== undefined && { nearest: near }) });
}

const malformed = (name: string, where: string, given: unknown, form: string): GhostwireError =>
  new GhostwireError('ERR_CONFIG', `${where}: ${name} must be ${form}, not ${JSON.stringify(given)}`, { key: name });

function wanted({ type, unit, family, minimum, maximum }: KeySchema): string {
  if (unit === 'duration') return "a duration such as '30s' or '10m', or a number of milliseconds";
  if (unit === 'size') return "a size such as '512MB', or a number of bytes";
  if (family !== undefined) return `an IPv${family} prefix such as ${family === 4 ? '100.64.0.0/10' : 'fd7a:115c:a1e0::/48'}`;
  if (type === 'integer')
    return maximum === undefined ? `a whole number from ${minimum ?? 0}` : `a whole number from ${minimum ?? 0} to ${maximum}`;
  if (type === 'object') return "a table such as { mmap_size = 1073741824 }, or the same as JSON";
  if (type === 'array') return 'a list of strings, or the same as JSON';
  return type === 'boolean' ? 'true or false' : 'a string';
}

/** A value of the TOML file: it has a type already, but may write durations and sizes as strings. */
function fromToml(name: string, value: unknown, where: string): unknown {
  const schema = schemas.get(name);
  if (schema?.unit !== undefined && typeof value === 'string') return fromText(name, value, where);
  return checked(name, typeof value === 'bigint' ? Number(value) : value, value, where);
}

/** A value of the environment or a flag: always text. */
function fromText(name: string, value: string, where: string): unknown {
  const schema = schemas.get(name);
  let parsed: unknown = value;
  if (schema?.unit === 'duration') parsed = parseDuration(value);
  else if (schema?.unit === 'size') parsed = parseSize(value);
  else if (schema?.type === 'integer') parsed = /^\d+$/.test(value) ? Number(value) : undefined;
  else if (schema?.type === 'object' || schema?.type === 'array') parsed = fromJson(value);
  else if (schema?.type === 'boolean') parsed = { true: true, false: false, 1: true, 0: false }[value];
  return checked(name, parsed, value, where);
}

function fromJson(source: string): unknown {
  try {
    return JSON.parse(source);
  } catch {
    return undefined;
  }
}

function checked(name: string, value: unknown, given: unknown, where: string): unknown {
  const schema = schemas.get(name);
  if (schema === undefined || !Value.Check(schema as unknown as ReturnType<typeof Type.String>, value)) {
    throw malformed(name, where, given, schema === undefined ? 'known' : wanted(schema));
  }
  if (schema.family !== undefined) {
    const parsed = parsePrefix(value);
    const [least, most] = LENGTHS[schema.family];
    if (parsed?.family !== schema.family || parsed.length < least || parsed.length > most) {
      throw malformed(name, where, given, `${wanted(schema)} without host bits, /${least} to /${most}`);
    }
  }
  if (name === 'log.filter') {
    try {
      parseLogFilter(value);
    } catch (cause) {
      throw new GhostwireError('ERR_CONFIG', `${where}: ${(cause as Error).message}`, { key: name }, { cause });
    }
  }
  return value;
}

/** Rules between values. */
function checkTogether(config: Config, sources: ReadonlyMap<string, Source>): void {
  const { pool, server, network, addresses } = config;
  if (pool.min_connections > pool.max_connections) {
    const where = `${sources.get('pool.min_connections')}, ${sources.get('pool.max_connections')}`;
    throw new GhostwireError(
      'ERR_CONFIG',
      `${where}: pool.min_connections (${pool.min_connections}) is above pool.max_connections (${pool.max_connections})`,
    );
  }
  const ports = new Map<number, string>();
  for (const key of ['port', 'metrics_port', 'sync_port'] as const) {
    const other = server[key] === 0 ? undefined : ports.get(server[key]);
    if (other !== undefined) {
      throw new GhostwireError('ERR_CONFIG', `${sources.get(`server.${key}`)}: server.${key} and server.${other} are both ${server[key]}`);
    }
    ports.set(server[key], key);
  }
  for (const [key, schemes] of [
    ['public_url', ['http:', 'https:']],
    ['public_sync_url', ['ws:', 'wss:']],
  ] as const) {
    const given = server[key];
    if (given === '') continue;
    const protocol = URL.canParse(given) ? new URL(given).protocol : '';
    if (!(schemes as readonly string[]).includes(protocol))
      throw malformed(`server.${key}`, sources.get(`server.${key}`) ?? '', given, `a URL starting with ${schemes.join('// or ')}//`);
  }
  try {
    checkPools(network.ipv4, addresses.pools.length === 0 ? [network.ipv4] : addresses.pools);
  } catch (cause) {
    const where = sources.get('addresses.pools') === 'default' ? sources.get('network.ipv4') : sources.get('addresses.pools');
    throw new GhostwireError('ERR_CONFIG', `${where}: addresses.pools: ${(cause as Error).message}`, { key: 'addresses.pools' }, { cause });
  }
  if (!/^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(network.domain) || network.domain.length > 180) {
    throw malformed('network.domain', sources.get('network.domain') ?? '', network.domain, 'a lower-case DNS name');
  }
}
