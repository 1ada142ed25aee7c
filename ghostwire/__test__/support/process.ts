// The program as a process of its own.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run as runCommand } from '../../src/cli/program.js';

const BUILT = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const SOURCE = fileURLToPath(new URL('../../src', import.meta.url));

const changedAt = (path: string): number => statSync(path).mtimeMs;

/** What users run, unless the source is newer than it. */
function program(): string[] {
  const newest = Math.max(...readdirSync(SOURCE, { recursive: true, encoding: 'utf8' }).map((name) => changedAt(join(SOURCE, name))));
  return existsSync(BUILT) && changedAt(BUILT) > newest ? [BUILT] : ['--import=tsx', join(SOURCE, 'main.ts')];
}
const PROGRAM = program();

export const temporaryFolder = (): string => mkdtempSync(join(tmpdir(), 'ghostwire-'));

export interface Finished {
  /** null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
  /** Standard output so far. */
  readonly output: () => string;
}

const alive = new Set<ChildProcess>();

/** Ends what tests that failed have left behind. */
export function killAll(): void {
  for (const child of alive) child.kill('SIGKILL');
}

export function launch(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Running {
  const { PATH, HOME, TMPDIR } = process.env;
  const child = spawn(process.execPath, [...PROGRAM, ...args], {
    env: {
      ...(PATH === undefined ? {} : { PATH }),
      ...(HOME === undefined ? {} : { HOME }),
      ...(TMPDIR === undefined ? {} : { TMPDIR }),
      ...environment,
    },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  alive.add(child);
  child.once('close', () => alive.delete(child));
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const finished = once(child, 'close').then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as NodeJS.Signals | null,
    stdout,
    stderr,
  }));
  return { child, finished, output: () => stdout };
}

export const run = (args: readonly string[], environment?: Readonly<Record<string, string>>, input = ''): Promise<Finished> => {
  const { child, finished } = launch(args, environment);
  child.stdin?.end(input);
  // One that should have ended with an error may serve instead.
  const late = setTimeout(() => child.kill('SIGKILL'), 50_000);
  return finished.finally(() => clearTimeout(late));
};

/**
 * Runs a command in this process, which is quicker. Tests that use it must be serial: it borrows the process's own
 * output and environment.
 */
export async function runHere(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Finished> {
  const { env, stdout, stderr } = process;
  const writes = [stdout.write, stderr.write] as const;
  const printed = ['', ''];
  const capture = (index: 0 | 1) => (text: string | Uint8Array) => {
    printed[index] += String(text);
    return true;
  };
  process.env = { ...environment };
  stdout.write = capture(0);
  stderr.write = capture(1);
  try {
    const code = await runCommand(args);
    return { code, signal: null, stdout: printed[0] ?? '', stderr: printed[1] ?? '' };
  } finally {
    [stdout.write, stderr.write] = writes;
    process.env = env;
  }
}

/** What `serve --json` prints. */
export interface Started {
  readonly api: string;
  readonly metrics: string;
  readonly sync: string;
  readonly peers: number;
  readonly adminKey?: string;
  readonly preauthKey?: string;
  readonly join?: string;
}

export interface Server extends Running {
  readonly started: Started;
  /** Sends SIGINT and waits. */
  stop(): Promise<Finished>;
}

export const FREE_PORTS = ['--port=0', '--metrics-port=0', '--sync-port=0'];

/** Starts a server and waits until it says where it is. @throws Error with what it printed when it ends instead */
export async function start(
  database: string,
  args: readonly string[] = FREE_PORTS,
  environment: Readonly<Record<string, string>> = {},
): Promise<Server> {
  const running = launch(['serve', '--json', '--db-path', database, ...args], environment);
  const started = new Promise<Started>((resolve) => {
    running.child.stdout?.on('data', () => {
      const line = running.output().split('\n', 2);
      if (line.length > 1) resolve(JSON.parse(line[0] ?? '') as Started);
    });
  });
  const failed = running.finished.then((finished): never => {
    throw new Error(`the server ended with ${finished.code}: ${finished.stderr}`);
  });
  const server = {
    ...running,
    started: await Promise.race([started, failed]),
    stop: () => {
      running.child.kill('SIGINT');
      return running.finished;
    },
  };
  failed.catch(() => undefined);
  return server;
}
