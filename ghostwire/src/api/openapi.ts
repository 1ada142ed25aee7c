// The OpenAPI 3.1 document, made from the schemas that the routes validate with.

import type { RouteOptions } from 'fastify';

declare module 'fastify' {
  interface FastifySchema {
    summary?: string;
    security?: readonly Record<string, readonly string[]>[];
  }
}

interface RouteSchema {
  readonly summary?: string;
  readonly security?: readonly Record<string, readonly string[]>[];
  readonly body?: object;
  readonly params?: { readonly properties?: Record<string, object> };
  readonly querystring?: { readonly properties?: Record<string, object>; readonly required?: readonly string[] };
  readonly response?: Readonly<Record<string, { readonly description?: string }>>;
}

export interface OpenApi {
  /** Notes a route as it is added. */
  readonly add: (route: RouteOptions) => void;
  readonly document: () => object;
  /** Paths with their methods, as Fastify writes them. */
  readonly methods: ReadonlyMap<string, readonly string[]>;
}

export function collectOpenApi(version: string): OpenApi {
  const routes: RouteOptions[] = [];
  const methods = new Map<string, string[]>();
  return {
    methods,
    add: (route) => {
      routes.push(route);
      methods.set(route.url, [...(methods.get(route.url) ?? []), ...[route.method].flat()]);
    },
    document: () => ({
      openapi: '3.1.0',
      info: { title: 'Ghostwire', version, license: { name: 'MIT OR Apache-2.0' } },
      paths: paths(routes),
      components: {
        securitySchemes: {
          admin: { type: 'http', scheme: 'bearer', description: 'An admin key, gw_admin_…' },
          peer: { type: 'http', scheme: 'bearer', description: 'A peer token, gw_peer_…' },
        },
      },
    }),
  };
}

function paths(routes: readonly RouteOptions[]): Record<string, Record<string, object>> {
  const all: Record<string, Record<string, object>> = {};
  for (const { url, method, schema } of routes) {
    const path = (all[url.replaceAll(/:(\w+)/g, '{$1}')] ??= {});
    for (const verb of [method].flat()) path[verb.toLowerCase()] = operation((schema ?? {}) as RouteSchema);
  }
  return all;
}

function operation({ summary, security, body, params, querystring, response }: RouteSchema): object {
  const parameters = [
    ...Object.entries(params?.properties ?? {}).map(([name, schema]) => ({ name, in: 'path', required: true, schema })),
    ...Object.entries(querystring?.properties ?? {}).map(([name, schema]) => ({
      name,
      in: 'query',
      required: querystring?.required?.includes(name) ?? false,
      schema,
    })),
  ];
  const responses = Object.entries(response ?? {}).map(([status, schema]) => [
    status === '4xx' || status === '5xx' ? status.toUpperCase() : status,
    { description: schema.description ?? 'OK', ...(status === '204' ? {} : { content: { 'application/json': { schema } } }) },
  ]);
  return {
    ...(summary === undefined ? {} : { summary }),
    ...(security === undefined ? {} : { security }),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: true,
            content: { [(body as { contentMediaType?: string }).contentMediaType ?? 'application/json']: { schema: body } },
          },
        }),
    responses: Object.fromEntries(responses) as object,
  };
}
