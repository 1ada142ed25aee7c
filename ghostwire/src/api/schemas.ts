// The shapes of requests and responses. Validation, serializers, types and the OpenAPI document all come from here.

import { Type, type Static, type TProperties, type TSchema } from 'typebox';

const closed = <Properties extends TProperties>(properties: Properties, options = {}) =>
  Type.Object(properties, { additionalProperties: false, ...options });
const text = (maxLength: number, options = {}) => Type.String({ maxLength, ...options });
/** Text that is shown to people: a control character could rewrite their terminal. */
const line = (maxLength: number, options = {}) => text(maxLength, { pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f]*$', ...options });
const time = (options = {}) => Type.String({ format: 'date-time', maxLength: 40, ...options });
/** A list of types and not a union: the serializer need not try the alternatives. */
const nullable = <Schema extends TSchema & { readonly type: string }>(schema: Schema) =>
  Type.Unsafe<Static<Schema> | null>({ ...schema, type: [schema.type, 'null'] });

const Tags = Type.Array(text(67), { maxItems: 32 });
const Routes = Type.Array(text(49), { maxItems: 64 });
const Metadata = Type.Record(Type.String({ pattern: '^[A-Za-z0-9._/-]{1,64}$' }), line(256), {
  maxProperties: 32,
  additionalProperties: false,
});

export const ErrorResponse = Type.Object(
  {
    error: Type.Object({
      code: Type.String({ description: 'One of the catalogue in docs/errors.md.' }),
      message: Type.String(),
      retryable: Type.Boolean(),
      details: Type.Object({}, { additionalProperties: true }),
    }),
  },
  { description: 'Every error has this shape.' },
);

export const Nothing = Type.Null({ description: 'Done; the answer has no body.' });

export const Id = closed({ id: text(32) });

/** The cursor of a page is opaque to callers: the last id of the page before. */
export const Page = closed({
  after: Type.Optional(text(32, { description: '`next` of the page before.' })),
  limit: Type.Optional(Type.String({ pattern: '^([1-9][0-9]{0,2}|1000)$', description: 'Items at most, 1 to 1000; default 100.' })),
});

export const Peer = closed({
  id: Type.String(),
  name: Type.String({ description: 'Unique in the network; a DNS label.' }),
  hostname: Type.String(),
  user: nullable(Type.String()),
  tags: Type.Array(Type.String()),
  addresses: Type.Array(Type.String(), { description: 'IPv4, then IPv6.' }),
  wireguardKey: Type.String(),
  endpoints: Type.Array(Type.String()),
  os: Type.String(),
  version: Type.String(),
  advertisedRoutes: Type.Array(Type.String()),
  approvedRoutes: Type.Array(Type.String()),
  metadata: Type.Record(Type.String(), Type.String()),
  preauthKey: Type.String({ description: 'Id of the pre-auth key that it registered with.' }),
  createdAt: Type.String(),
  revision: Type.Integer(),
});
export type PeerBody = Static<typeof Peer>;

export const Registration = closed({
  preauthKey: text(128),
  wireguardKey: text(64, { description: 'Base64 of the 32 bytes of a public key.' }),
  hostname: text(63),
  user: Type.Optional(text(254, { description: 'name@domain; only for pre-auth keys that are bound to no user.' })),
  os: Type.Optional(line(64)),
  version: Type.Optional(line(64)),
  endpoints: Type.Optional(Type.Array(text(56), { maxItems: 16, description: 'Where others may try to reach it, address:port.' })),
  tags: Type.Optional(Tags),
  routes: Type.Optional({ ...Routes, description: 'Prefixes that it offers to carry; of no effect until approved.' }),
  metadata: Type.Optional(Metadata),
});

/** Where and how to follow the netmap. */
export const Connection = closed({
  url: Type.String(),
  token: nullable(Type.String({ description: 'For one connection, soon. Null when too many are outstanding: ask again.' })),
  expiresAt: nullable(Type.String()),
  stun: nullable(Type.String({ description: 'host:port of a STUN server (RFC 8489) that tells a UDP port its public address.' })),
});

export const Registered = closed({
  peer: Peer,
  token: Type.String({ description: "The peer's own bearer token, shown this once." }),
  sync: Connection,
});

export const PeerList = closed({ peers: Type.Array(Peer), next: nullable(Type.String()) });

export const PeerUpdate = closed(
  {
    name: Type.Optional(text(63)),
    tags: Type.Optional(Tags),
    approvedRoutes: Type.Optional(Routes),
    metadata: Type.Optional(Metadata),
  },
  { minProperties: 1 },
);

const Endpoints = Type.Array(text(56), { maxItems: 16, description: 'Where others may try to reach it, address:port.' });

export const SelfUpdate = closed(
  {
    endpoints: Type.Optional(Endpoints),
    wireguardKey: Type.Optional(text(64, { description: 'The new public key; the old one is void at once.' })),
    routes: Type.Optional({ ...Routes, description: 'Prefixes that it offers to carry; of no effect until approved.' }),
  },
  { minProperties: 1 },
);

export const VisiblePeers = closed({
  peers: Type.Array(closed({ id: Type.String(), name: Type.String(), addresses: Type.Array(Type.String()) })),
});

const keyFields = {
  id: Type.String(),
  description: Type.String(),
  state: Type.Union([Type.Literal('active'), Type.Literal('expired'), Type.Literal('revoked'), Type.Literal('used-up')]),
  createdAt: Type.String(),
  expiresAt: nullable(Type.String()),
  revokedAt: nullable(Type.String()),
};

const newKeyFields = {
  description: Type.Optional(line(256)),
  expiresAt: Type.Optional(nullable(time({ description: 'RFC 3339; null never expires.' }))),
};

export const AdminKey = closed(keyFields);
export const AdminKeyList = closed({ keys: Type.Array(AdminKey) });
export const NewAdminKey = closed(newKeyFields);
export const CreatedAdminKey = closed({ ...keyFields, key: Type.String({ description: 'Shown this once.' }) });

const preauthFields = {
  ...keyFields,
  maxUses: nullable(Type.Integer()),
  uses: Type.Integer(),
  tags: Type.Array(Type.String()),
  user: nullable(Type.String()),
};
export const PreauthKey = closed(preauthFields);
export const PreauthKeyList = closed({ keys: Type.Array(PreauthKey) });
export const NewPreauthKey = closed({
  ...newKeyFields,
  maxUses: Type.Optional(
    nullable(Type.Integer({ minimum: 1, maximum: 1_000_000_000, description: 'Default 1, a one-time key; null is no limit.' })),
  ),
  tags: Type.Optional(Tags),
  user: Type.Optional(nullable(text(254))),
});
export const CreatedPreauthKey = closed({ ...preauthFields, key: Type.String({ description: 'Shown this once.' }) });

export const Policy = closed({
  revision: Type.Integer({ description: 'For If-Match; 0 when no policy was ever set, which allows everything.' }),
  text: nullable(Type.String({ description: 'HuJSON' })),
  writtenAt: nullable(Type.String()),
});
export const PolicyCheck = closed({ rules: Type.Integer({ description: 'Rules that it compiles to.' }) });

export const Question = closed({
  src: text(64, { description: "A peer's id, name or address, or any other address." }),
  dst: text(64),
  proto: Type.Optional(
    Type.Union([Type.Integer({ minimum: 0, maximum: 255 }), Type.Literal('tcp'), Type.Literal('udp'), Type.Literal('icmp')], {
      description: 'Default tcp.',
    }),
  ),
  port: Type.Optional(Type.Integer({ minimum: 0, maximum: 65_535, description: 'Default 0, for protocols without ports.' })),
});
export const Decision = closed({
  allowed: Type.Boolean(),
  line: nullable(Type.Integer({ description: "The deciding rule's line in the policy; null when no rule matched or there is no policy." })),
});
