// The agent's calls to its coordinator.

import { GhostwireError } from '../errors.js';
import { send, ServerError, type Remote } from '../http.js';
import type { Connection } from '../api/rest.js';
import type { PeerBody } from '../api/schemas.js';
import type { SelfUpdate } from '../peers/peers.js';

export interface JoinRequest {
  readonly preauthKey: string;
  readonly wireguardKey: string;
  readonly hostname: string;
  readonly user?: string;
  readonly tags?: readonly string[];
  readonly routes?: readonly string[];
  readonly endpoints?: readonly string[];
  readonly os: string;
  readonly version: string;
}

export interface Joined {
  readonly peer: PeerBody;
  readonly token: string;
  readonly sync: Connection;
}

export function join(remote: Remote, request: JoinRequest): Promise<Joined> {
  return send(remote, { method: 'POST', path: '/v1/peers/register', token: '', body: JSON.stringify(request) });
}

export class CoordinatorClient {
  readonly remote: Remote;
  readonly #token: string;

  constructor(remote: Remote, token: string) {
    this.remote = remote;
    this.#token = token;
  }

  /**
   * Where to follow the netmap. Only the server's plain word that this peer is none ends the agent; whatever else goes
   * wrong may pass, a server that is not the pinned one included.
   */
  async connection(signal: AbortSignal): Promise<{ readonly url: string; readonly token: string; readonly stun: string | null }> {
    try {
      const { url, token, stun } = await this.#call<Connection>('POST', '/v1/peers/self/connection-token', undefined, signal);
      if (token === null) throw new Error('the server has no connection token to give just now');
      return { url, token, stun };
    } catch (error) {
      if (error instanceof ServerError && error.code === 'ERR_UNAUTHORIZED') throw error;
      throw new GhostwireError('ERR_UNREACHABLE', (error as Error).message, {}, { cause: error });
    }
  }

  update(update: SelfUpdate): Promise<PeerBody> {
    return this.#call('PATCH', '/v1/peers/self', update);
  }

  leave(): Promise<void> {
    return this.#call('DELETE', '/v1/peers/self');
  }

  #call<T>(method: string, path: string, json?: unknown, signal?: AbortSignal): Promise<T> {
    return send(this.remote, {
      method,
      path,
      token: this.#token,
      ...(json !== undefined && { body: JSON.stringify(json) }),
      ...(signal !== undefined && { signal }),
    });
  }
}
