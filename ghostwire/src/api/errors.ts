// Turns whatever goes wrong with a request into an answer of the one error shape.

import type { Socket } from 'node:net';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { GhostwireError, toResponse, type GhostwireErrorCode } from '../errors.js';
import type { Logger } from '../log.js';

/** Fastify's own errors by what they mean to us. */
const OF_FASTIFY: Readonly<Record<string, GhostwireErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'ERR_BODY_TOO_LARGE',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'ERR_BODY_TYPE',
  FST_ERR_CTP_INVALID_TYPE: 'ERR_BODY_TYPE',
  FST_ERR_CTP_EMPTY_TYPE: 'ERR_BODY_TYPE',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'ERR_BODY_SYNTAX',
  FST_ERR_CTP_INVALID_JSON_BODY: 'ERR_BODY_SYNTAX',
};

/** Only what the schema says and where; never the value, which may be a secret. */
function ofValidation(error: FastifyError): GhostwireError {
  const first = error.validation?.[0];
  const inside = (first?.instancePath ?? '').split('/').slice(1);
  const params = first?.params ?? {};
  const named = params['missingProperty'] ?? params['additionalProperty'];
  const path = [...inside, ...(typeof named === 'string' ? [named] : [])].join('.');
  const problem =
    typeof params['additionalProperty'] === 'string'
      ? 'is not a known field'
      : typeof params['missingProperty'] === 'string'
        ? 'is required'
        : (first?.message ?? 'is not valid');
  return new GhostwireError('ERR_VALIDATION', `${path === '' ? (error.validationContext ?? 'request') : path} ${problem}`, {
    path,
    in: error.validationContext ?? 'request',
  });
}

function translate(error: FastifyError): unknown {
  if (error.validation !== undefined) return ofValidation(error);
  const code = OF_FASTIFY[error.code];
  if (code !== undefined) return new GhostwireError(code, error.message, {}, { cause: error });
  if (error instanceof SyntaxError && error.statusCode === 400)
    return new GhostwireError('ERR_BODY_SYNTAX', `the body is not valid JSON: ${error.message}`, {}, { cause: error });
  if (typeof error.code === 'string' && error.code.startsWith('FST_') && (error.statusCode ?? 500) < 500)
    return new GhostwireError('ERR_REQUEST', error.message, {}, { cause: error });
  return error;
}

export function errorHandler(log: Logger) {
  return (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void => {
    const { status, body } = toResponse(translate(error));
    if (status >= 500)
      log.error({ err: error, method: request.method, route: request.routeOptions.url, code: body.error.code }, 'request failed');
    if (status === 401) void reply.header('www-authenticate', 'Bearer');
    if (status === 429) void reply.header('retry-after', String(Math.ceil(Number(body.error.details['retryAfterMs'] ?? 1_000) / 1_000)));
    if (status === 503 && body.error.retryable) void reply.header('retry-after', '1');
    // Not through the route's serializers, which know other shapes.
    void reply.code(status).header('content-type', 'application/json; charset=utf-8').serializer(JSON.stringify).send(body);
  };
}

/** Answers what was not even an HTTP request, or did not arrive in time. */
export function clientErrorHandler(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const late = error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
  const failure = late
    ? new GhostwireError('ERR_REQUEST_TIMEOUT', 'the request did not arrive in time')
    : new GhostwireError('ERR_REQUEST', error.code === 'HPE_HEADER_OVERFLOW' ? 'the headers are too large' : 'this is not an HTTP request');
  const { body } = toResponse(failure);
  const text = JSON.stringify(body);
  const status = late
    ? '408 Request Timeout'
    : error.code === 'HPE_HEADER_OVERFLOW'
      ? '431 Request Header Fields Too Large'
      : '400 Bad Request';
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`,
  );
}
