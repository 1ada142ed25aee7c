// HTTP to a coordinator: over TLS 1.3 whose key is pinned by its fingerprint or whose certificate is verified, or plain to
// this machine. Nothing is sent before the server has proved who it is.

import { X509Certificate } from 'node:crypto';
import { Agent as PlainAgent, request as plainRequest } from 'node:http';
import { Agent as SecureAgent, request as secureRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { GhostwireError, type ErrorBody } from './errors.js';
import { fingerprintOf, isFingerprint, isLoopback } from './tls.js';

/** How a server is reached and known. */
export interface Remote {
  readonly url: string;
  /** Of the server's key; without one its certificate must be signed by somebody whom this machine trusts. */
  readonly fingerprint?: string | undefined;
  /** Plain text to other machines. */
  readonly insecure?: boolean | undefined;
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

/** Gives out connections to servers with one key. */
class PinnedAgent extends SecureAgent {
  readonly #fingerprint: string;

  constructor(fingerprint: string) {
    super({ keepAlive: true });
    this.#fingerprint = fingerprint;
  }

  // A connection is handed over when its key has been looked at, and never earlier.
  override createConnection(options: ConnectionOptions, done?: (error: Error | null, socket: Duplex) => void): undefined {
    const socket: TLSSocket = connect({ ...options, ALPNProtocols: ['http/1.1'], minVersion: 'TLSv1.3', rejectUnauthorized: false });
    const fail = (error: Error): void => done?.(error, socket);
    socket.once('error', fail);
    socket.once('secureConnect', () => {
      const certificate = socket.getPeerX509Certificate();
      const found = certificate === undefined ? 'none' : fingerprintOf(new X509Certificate(certificate.raw));
      socket.off('error', fail);
      if (found === this.#fingerprint) {
        done?.(null, socket);
        return;
      }
      socket.destroy();
      fail(new GhostwireError('ERR_CERTIFICATE', `the server's key is ${found}, not the pinned ${this.#fingerprint}`, { found }));
    });
    return undefined;
  }
}

const agents = new Map<string, PlainAgent>();

/**
 * What connections to this server are made with; for `wss:` and `ws:` too.
 * @throws GhostwireError ERR_USAGE, ERR_INSECURE
 */
export function agentFor({ url, fingerprint, insecure }: Remote): PlainAgent {
  if (!URL.canParse(url)) throw new GhostwireError('ERR_USAGE', `${JSON.stringify(url)} is not a URL`);
  const { protocol, hostname } = new URL(url);
  const secure = protocol === 'https:' || protocol === 'wss:';
  if (!secure && protocol !== 'http:' && protocol !== 'ws:') throw new GhostwireError('ERR_USAGE', `${url}: not https: or http:`);
  if (fingerprint !== undefined && !isFingerprint(fingerprint))
    throw new GhostwireError('ERR_USAGE', `${JSON.stringify(fingerprint)} is not a fingerprint, sha256: and 43 characters`);
  // A pinned server that turns to plain text is not the pinned one.
  if (!secure && (fingerprint !== undefined || (insecure !== true && !isLoopback(hostname))))
    throw new GhostwireError('ERR_INSECURE', `${url} is plain text to another machine; give an https: URL, or --insecure`, { url });
  const key = secure ? (fingerprint ?? 'verified') : 'plain';
  let agent = agents.get(key);
  if (agent === undefined) {
    if (!secure) agent = new PlainAgent({ keepAlive: true });
    else if (fingerprint === undefined) agent = new SecureAgent({ keepAlive: true, minVersion: 'TLSv1.3' });
    else agent = new PinnedAgent(fingerprint);
    agents.set(key, agent);
  }
  return agent;
}

/** Lets go of every connection that is kept for later: after the network has changed they may lead nowhere. */
export function forgetConnections(): void {
  for (const agent of agents.values()) agent.destroy();
}

export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly token: string;
  readonly body?: string;
  readonly type?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

const TIMEOUT = 30_000;
/** Bytes of an answer at most. */
const LARGEST = 16 * 1024 * 1024;

/** The answer's JSON; undefined for an empty one. @throws ServerError, GhostwireError ERR_UNREACHABLE, ERR_CERTIFICATE, ERR_INSECURE */
export async function send<T>(remote: Remote, { method, path, token, body, type, headers, signal }: HttpRequest): Promise<T> {
  const base = remote.url.replace(/\/+$/, '');
  const agent = agentFor(remote);
  const { status, text } = await new Promise<{ status: number; text: string }>((resolve, reject) => {
    const make = base.startsWith('https:') ? secureRequest : plainRequest;
    const request = make(base + path, {
      method,
      agent,
      signal: signal === undefined ? AbortSignal.timeout(TIMEOUT) : AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]),
      headers: {
        ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': type ?? 'application/json', 'content-length': String(Buffer.byteLength(body)) }),
        ...headers,
      },
    });
    request.once('error', reject);
    request.once('response', (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size > LARGEST) response.destroy(new Error(`the answer is over ${LARGEST} bytes`));
      });
      response.once('error', reject);
      response.once('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
    });
    request.end(body);
  }).catch((cause: unknown) => {
    if (cause instanceof GhostwireError) throw cause;
    const { message, code } = cause as Error & { code?: string };
    throw new GhostwireError('ERR_UNREACHABLE', `no answer from ${base}: ${message || code}`, { url: base }, { cause });
  });
  const value = parsed(text);
  if (status < 400) return value as T;
  if (isErrorBody(value)) throw new ServerError(value);
  throw new GhostwireError('ERR_UNREACHABLE', `${base} answered ${status}, and not as Ghostwire does`, { url: base, status });
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
