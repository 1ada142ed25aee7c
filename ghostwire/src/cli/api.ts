// Calls a running server's REST API for the commands that need one.

import { readFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import { POLICY_LIMIT } from '../api/limits.js';
import { GhostwireError } from '../errors.js';
import { send, type Remote } from '../http.js';

export interface ApiOptions {
  readonly url: string;
  readonly adminKey: string | undefined;
  readonly fingerprint?: string | undefined;
  readonly insecure?: boolean | undefined;
}

export interface ApiRequest {
  readonly json?: unknown;
  readonly hujson?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export class Api {
  readonly #remote: Remote;
  readonly #adminKey: string;

  /** @throws GhostwireError ERR_USAGE without an admin key */
  constructor({ url, adminKey, fingerprint, insecure }: ApiOptions) {
    if (!URL.canParse(url)) throw new GhostwireError('ERR_USAGE', `${JSON.stringify(url)} is not a URL; set GHOSTWIRE_URL or --url`);
    if (adminKey === undefined || adminKey === '') throw new GhostwireError('ERR_USAGE', 'no admin key: set GHOSTWIRE_ADMIN_KEY');
    this.#remote = { url, fingerprint, insecure };
    this.#adminKey = adminKey;
  }

  /** The answer's JSON; undefined for an empty one. @throws ServerError, GhostwireError ERR_UNREACHABLE, ERR_CERTIFICATE, ERR_INSECURE */
  async request<T>(method: string, path: string, { json, hujson, headers }: ApiRequest = {}): Promise<T> {
    // Said here, because a server that answers and closes while it is still being sent to may not be heard.
    if (hujson !== undefined && Buffer.byteLength(hujson) > POLICY_LIMIT)
      throw new GhostwireError('ERR_BODY_TOO_LARGE', `the policy has ${Buffer.byteLength(hujson)} bytes; at most ${POLICY_LIMIT} are taken`);
    const body = hujson ?? (json === undefined ? undefined : JSON.stringify(json));
    return await send(this.#remote, {
      method,
      path,
      token: this.#adminKey,
      ...(body !== undefined && { body }),
      ...(hujson !== undefined && { type: 'application/hujson' }),
      ...(headers !== undefined && { headers }),
    });
  }
}

/** A file's text, or standard input's for `-`. @throws GhostwireError ERR_USAGE */
export async function readInput(file: string): Promise<string> {
  try {
    return file === '-' ? await readAll(process.stdin) : await readFile(file, 'utf8');
  } catch (cause) {
    throw new GhostwireError('ERR_USAGE', `cannot read ${file}: ${(cause as Error).message}`, { file }, { cause });
  }
}
