// Structured logs, and the one filter that rules the levels of TypeScript and Rust alike.
//
// A filter is what RUST_LOG takes: a default level and exceptions by target, `info,ghostwire::api=debug`. A target holds
// for all targets below it. Secrets must never be passed to a logger; what looks like one is blanked all the same.

import pino, { type DestinationStream, type Logger } from 'pino';
import { nearest } from './nearest.js';

export type { Logger } from 'pino';

const LEVELS = ['off', 'error', 'warn', 'info', 'debug', 'trace'] as const;
export type Level = (typeof LEVELS)[number];

export interface LogFilter {
  readonly level: Level;
  /** Exceptions, the longest target first. */
  readonly targets: readonly { readonly target: string; readonly level: Level }[];
}

/** @throws Error naming the part that is wrong */
export function parseLogFilter(text: string): LogFilter {
  let level: Level = 'error'; // as RUST_LOG does, when only targets are named
  const targets: { target: string; level: Level }[] = [];
  for (const part of text.split(',')) {
    const directive = part.trim();
    if (directive === '') continue;
    const [name = '', value] = directive.split('=', 2);
    if (value !== undefined) targets.push({ target: name.trim(), level: parseLevel(value, directive) });
    else if (/^[\w-]+(::[\w-]+)+$/.test(name)) targets.push({ target: name, level: 'trace' });
    else level = parseLevel(name, directive);
  }
  targets.sort((a, b) => b.target.length - a.target.length);
  return { level, targets };
}

function parseLevel(text: string, directive: string): Level {
  const level = text.trim().toLowerCase();
  const found = LEVELS.find((known) => known === level);
  if (found !== undefined) return found;
  const near = nearest(level, LEVELS);
  const hint = near === undefined ? `a level is one of ${LEVELS.join(', ')}` : `did you mean ${near}?`;
  throw new Error(`log filter ${JSON.stringify(directive)}: unknown level ${text.trim()}; ${hint}`);
}

/** The level that a filter gives to a target such as `ghostwire::api`. */
export function levelOf({ level, targets }: LogFilter, target: string): Level {
  return targets.find((entry) => target === entry.target || target.startsWith(`${entry.target}::`))?.level ?? level;
}

/** Makes the logger of one target. */
export type Log = (target: string) => Logger;

/** Anything that has the form of one of our keys or tokens. */
const SECRET = /\bgw_(admin|preauth|peer)_([a-z2-7]+)_[a-z2-7]+/g;

/** Blanks the secret part of every key in a text; the id stays, to find the key by. */
export const withoutSecrets = (text: string): string => text.replace(SECRET, 'gw_$1_$2_***');

/** Logs as JSON lines to `destination`, by default stderr: stdout belongs to what a command prints. */
export function createLog(filter: string, destination: DestinationStream = pino.destination(2)): Log {
  const parsed = parseLogFilter(filter);
  const root = pino(
    {
      level: 'trace',
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: ['*.authorization', 'authorization', '*.token', 'token', '*.secret', 'secret', '*.preauthKey', 'preauthKey'],
        censor: '***',
      },
    },
    { write: (line: string) => destination.write(withoutSecrets(line)) },
  );
  return (target) => {
    const level = levelOf(parsed, target);
    return root.child({ target }, { level: level === 'off' ? 'silent' : level });
  };
}

/** Discards everything. */
export const silentLog: Log = () => pino({ level: 'silent' });
