// Calls a running server's REST API for the commands that need one.

import { readFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import { POLICY_LIMIT } from '../api/limits.js';
import { GhostwireError, type ErrorBody } from '../errors.js';

export interface ApiOptions {
  readonly url: string;
  readonly adminKey: string | undefined;
}

/** An error that the server answered with: its code and message, and nothing of ours. */
export class ServerError extends Error {
  override readonly name = 'ServerError';
  readonly code: string;
  readonly retryable: boolean;

  constructor({ error }: ErrorBody) {
    super(error.message);
    this.code = error.code;
    this.retryable = error.retryable;
  }
}

export interface ApiRequest {
  readonly json?: unknown;
  readonly hujson?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const TIMEOUT = 30_000;

export class Api {
  readonly #url: string;
  readonly #adminKey: string;

  /** @throws GhostwireError ERR_USAGE without an admin key */
  constructor({ url, adminKey }: ApiOptions) {
    if (!URL.canParse(url)) throw new GhostwireError('ERR_USAGE', `${JSON.stringify(url)} is not a URL; set GHOSTWIRE_URL or --url`);
    if (adminKey === undefined || adminKey === '') throw new GhostwireError('ERR_USAGE', 'no admin key: set GHOSTWIRE_ADMIN_KEY');
    this.#url = url.replace(/\/+$/, '');
    this.#adminKey = adminKey;
  }

  /** The answer's JSON; undefined for an empty one. @throws ServerError, GhostwireError ERR_UNREACHABLE */
  async request<T>(method: string, path: string, { json, hujson, headers }: ApiRequest = {}): Promise<T> {
    // Said here, because a server that answers and closes while it is still being sent to may not be heard.
    if (hujson !== undefined && Buffer.byteLength(hujson) > POLICY_LIMIT)
      throw new GhostwireError('ERR_BODY_TOO_LARGE', `the policy has ${Buffer.byteLength(hujson)} bytes; at most ${POLICY_LIMIT} are taken`);
    const body = hujson ?? (json === undefined ? undefined : JSON.stringify(json));
    const type = hujson === undefined ? 'application/json' : 'application/hujson';
    let status: number;
    let answer: string;
    try {
      const response = await fetch(this.#url + path, {
        method,
        headers: { authorization: `Bearer ${this.#adminKey}`, ...(body === undefined ? {} : { 'content-type': type }), ...headers },
        ...(body === undefined ? {} : { body }),
        signal: AbortSignal.timeout(TIMEOUT),
      });
      status = response.status;
      answer = await response.text();
    } catch (cause) {
      const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : String(cause);
      throw new GhostwireError('ERR_UNREACHABLE', `no answer from ${this.#url}: ${reason}`, { url: this.#url }, { cause });
    }
    const value = parsed(answer);
    if (status < 400) return value as T;
    if (isErrorBody(value)) throw new ServerError(value);
    throw new GhostwireError('ERR_UNREACHABLE', `${this.#url} answered ${status}, and not as Ghostwire does`, { url: this.#url, status });
  }
}

function parsed(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isErrorBody(value: unknown): value is ErrorBody {
  const error = typeof value === 'object' && value !== null && 'error' in value ? value.error : undefined;
  return typeof error === 'object' && error !== null && 'code' in error && 'message' in error && 'retryable' in error;
}

/** A file's text, or standard input's for `-`. @throws GhostwireError ERR_USAGE */
export async function readInput(file: string): Promise<string> {
  try {
    return file === '-' ? await readAll(process.stdin) : await readFile(file, 'utf8');
  } catch (cause) {
    throw new GhostwireError('ERR_USAGE', `cannot read ${file}: ${(cause as Error).message}`, { file }, { cause });
  }
}
