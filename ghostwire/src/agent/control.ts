// How commands talk to the running agent: HTTP on a socket file that only root can open.

import { createServer, request, type Server } from 'node:http';
import { chmodSync, rmSync } from 'node:fs';
import { text as readAll } from 'node:stream/consumers';
import { GhostwireError, toResponse, type ErrorBody } from '../errors.js';
import { ServerError } from '../http.js';

export type Handlers = Readonly<Record<string, (body: unknown) => unknown>>;

const LARGEST = 64 * 1024;
const TIMEOUT = 30_000;

/** @throws GhostwireError ERR_AGENT_RUNNING */
export async function listenControl(path: string, handlers: Handlers): Promise<() => Promise<void>> {
  if (await isRunning(path)) throw new GhostwireError('ERR_AGENT_RUNNING', `an agent listens on ${path} already`, { path });
  rmSync(path, { force: true });
  const server: Server = createServer((incoming, response) => {
    const handler = handlers[`${incoming.method} ${incoming.url}`];
    const answer = async (): Promise<unknown> => {
      if (handler === undefined) throw new GhostwireError('ERR_NOT_FOUND', `the agent has no ${incoming.url}`);
      if (Number(incoming.headers['content-length'] ?? 0) > LARGEST) throw new GhostwireError('ERR_BODY_TOO_LARGE', 'too much');
      const body = await readAll(incoming);
      return handler(body === '' ? undefined : JSON.parse(body));
    };
    answer().then(
      (value) => response.end(JSON.stringify(value ?? {})),
      (error: unknown) => {
        const { status, body } = toResponse(error);
        response.statusCode = status;
        response.end(JSON.stringify(body));
      },
    );
  });
  const mask = process.umask(0o177);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  }).finally(() => process.umask(mask));
  chmodSync(path, 0o600);
  return () =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeIdleConnections();
    });
}

const isRunning = (path: string): Promise<boolean> =>
  ask(path, 'GET', '/alive').then(
    () => true,
    (error: unknown) => error instanceof ServerError,
  );

/** @throws GhostwireError ERR_AGENT_NOT_RUNNING; ServerError with what the agent said */
export function ask<T>(path: string, method: string, url: string, body?: unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? '' : JSON.stringify(body);
    const call = request({ socketPath: path, method, path: url, headers: { 'content-length': Buffer.byteLength(text) }, timeout: TIMEOUT });
    call.once('timeout', () => call.destroy(new Error('the agent does not answer')));
    call.once('error', (cause) => {
      const reason = (cause as NodeJS.ErrnoException).code === 'EACCES' ? 'only root may ask the agent' : 'no agent runs on this machine; `ghostwire up` starts one';
      reject(new GhostwireError('ERR_AGENT_NOT_RUNNING', reason, { path }, { cause }));
    });
    call.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', reject);
      response.once('end', () => {
        const value = JSON.parse(Buffer.concat(chunks).toString() || '{}') as T | ErrorBody;
        if ((response.statusCode ?? 500) >= 400) reject(new ServerError(value as ErrorBody));
        else resolve(value as T);
      });
    });
    call.end(text);
  });
}
