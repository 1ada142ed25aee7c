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
  primaryRoutes: Type.Array(Type.String(), { description: 'Of its approved routes, those that the others are told to send to it.' }),
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
    ipv4: Type.Optional(text(15, { description: 'An address of the network that nobody has, in a pool or not. The IPv6 address follows it.' })),
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

const Named = closed({ id: Type.String(), name: Type.String() });
export const AddressParam = closed({ address: text(45, { description: 'IPv4 or IPv6.' }) });
/** Who has an address. */
export const WhoHas = closed({
  address: Type.String(),
  state: Type.Union(
    [
      Type.Literal('held', { description: 'By a peer.' }),
      Type.Literal('pending', { description: 'About to be held.' }),
      Type.Literal('kept', { description: 'For the peer that a pre-auth key registers.' }),
      Type.Literal('resting', { description: 'After the peer that had it.' }),
      Type.Literal('reserved', { description: 'No peer may have it.' }),
      Type.Literal('free'),
      Type.Literal('outside', { description: 'Of the network.' }),
    ],
    { description: 'How things stand with it.' },
  ),
  peer: Type.Union([Named, Type.Null()], { description: 'That holds it.' }),
  preauthKey: nullable(Type.String({ description: 'Id of the key that it is kept for.' })),
  restsUntil: nullable(Type.String()),
  pool: nullable(Type.String({ description: 'The configured pool that it is of.' })),
  routes: Type.Array(
    closed({
      prefix: Type.String(),
      primary: Named,
      routers: Type.Array(Named, { description: 'All that are approved for it.' }),
    }),
    { description: 'Approved subnets that hold it, the longest first: packets go to the primary of the first.' },
  ),
});
export type WhoHasBody = Static<typeof WhoHas>;

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
  ipv4: nullable(Type.String({ description: 'The address of the peer that it registers.' })),
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
  ipv4: Type.Optional(
    nullable(text(15, { description: 'For a key of one use: the address that its peer gets, kept for it until then. Any of the network that nobody has.' })),
  ),
});
export const CreatedPreauthKey = closed({ ...preauthFields, key: Type.String({ description: 'Shown this once.' }) });

const versionFields = {
  version: Type.Integer({ description: 'For If-Match; 0 when no policy was ever set, which allows everything.' }),
  writtenAt: nullable(Type.String()),
  author: nullable(Type.String({ description: 'Id of the admin key that wrote it.' })),
  comment: Type.String(),
  rollbackOf: nullable(Type.Integer({ description: 'The version whose text this one brought back.' })),
};
export const Policy = closed({
  ...versionFields,
  revision: Type.Integer({ description: "The journal's revision that wrote it; 0 when no policy was ever set." }),
  text: nullable(Type.String({ description: 'HuJSON' })),
});
export const PolicyVersionList = closed({ versions: Type.Array(closed({ ...versionFields, size: Type.Integer({ description: 'Characters.' }) })) });
export const PolicyVersion = closed({ ...versionFields, text: Type.String({ description: 'HuJSON' }) });
export const VersionNumber = closed({ version: Type.String({ pattern: '^[1-9][0-9]{0,11}$' }) });
export const PolicyComment = closed({ comment: Type.Optional(line(256, { description: 'Why; kept with the version.' })) });
export const PolicyRollback = closed({
  version: Type.Integer({ minimum: 1, description: 'The version whose text is put in force again, as a new version.' }),
  comment: Type.Optional(line(256)),
});

const Passages = Type.Array(
  closed({
    protocols: Type.Array(Type.Integer(), { description: 'IANA numbers; empty is all.' }),
    ports: Type.Array(Type.Array(Type.Integer()), { description: 'Ranges, both ends within; empty is all.' }),
  }),
);
const PairCounts = closed(
  { gaining: Type.Integer(), losing: Type.Integer(), opened: Type.Integer(), closed: Type.Integer() },
  { description: 'Ordered pairs. Opened: nothing passed before. Closed: nothing passes any more.' },
);
const Side = closed({
  peers: Type.Integer({ description: 'How many; `names` has the first of them.' }),
  names: Type.Array(Type.String()),
  ranges: Type.Integer({ description: 'Ranges of addresses behind routers; `subnets` has the first of them.' }),
  subnets: Type.Array(Type.String()),
});
/** Who gains and who loses what, among the peers that there are. */
export const AccessDifference = closed({
  pairs: PairCounts,
  behind: PairCounts,
  concerned: Type.Integer({ description: 'Peers that may send or be sent something else.' }),
  changes: Type.Array(closed({ sources: Side, destinations: Side, gained: Passages, lost: Passages }), {
    description: 'The largest first.',
  }),
  complete: Type.Boolean({ description: 'Whether `changes` has all of them; the counts always have.' }),
});

export const PolicyCheck = closed({
  rules: Type.Integer({ description: 'Rules that it compiles to.' }),
  difference: Type.Optional(AccessDifference),
});
export const CheckAgainst = closed({
  against: Type.Optional(Type.Literal('live', { description: 'Also tell what would change for the peers that there are.' })),
});
export const DiffQuery = closed({
  from: Type.String({ pattern: '^(live|[0-9]{1,12})$', description: 'A version; `live` is the one in force, 0 is no policy.' }),
  to: Type.String({ pattern: '^(live|[0-9]{1,12})$' }),
});
export const PolicyDiff = closed({
  text: nullable(Type.String({ description: 'Unified diff; null when the texts have too little in common.' })),
  access: AccessDifference,
});
export const PolicyExport = closed({
  text: Type.String({ description: 'HuJSON' }),
  complete: Type.Boolean({ description: 'Whether the text alone means all that is in force.' }),
  included: Type.Array(Type.Integer(), { description: 'Native rules that were written into the text.' }),
  omitted: Type.Array(closed({ id: Type.Integer(), reason: Type.String() }), { description: 'Native rules that no policy file can hold.' }),
});

const selectors = Type.Array(text(254), { minItems: 1, maxItems: 1_000, description: '`*`, user, group:, tag:, address, prefix, range.' });
const ruleFields = {
  action: Type.Union([Type.Literal('allow'), Type.Literal('deny')]),
  priority: Type.Integer({ minimum: -1_000_000, maximum: 1_000_000, description: 'Higher decides first; the policy file has 0. Default 100.' }),
  sources: selectors,
  destinations: selectors,
  protocols: Type.Array(Type.Integer({ minimum: 0, maximum: 255 }), { maxItems: 256, description: 'IANA numbers; empty is all.' }),
  ports: Type.Array(Type.Array(Type.Integer({ minimum: 0, maximum: 65_535 }), { minItems: 2, maxItems: 2 }), {
    maxItems: 256,
    description: 'Ranges of destination ports, both ends within; empty is all.',
  }),
  enabled: Type.Boolean(),
  comment: line(256),
};
export const NewRule = closed({
  action: ruleFields.action,
  sources: selectors,
  destinations: selectors,
  priority: Type.Optional(ruleFields.priority),
  protocols: Type.Optional(ruleFields.protocols),
  ports: Type.Optional(ruleFields.ports),
  enabled: Type.Optional(ruleFields.enabled),
  comment: Type.Optional(ruleFields.comment),
  expiresAt: Type.Optional(nullable(time({ description: 'RFC 3339; null never expires.' }))),
});
export const RuleUpdate = closed(
  {
    action: Type.Optional(ruleFields.action),
    sources: Type.Optional(selectors),
    destinations: Type.Optional(selectors),
    priority: Type.Optional(ruleFields.priority),
    protocols: Type.Optional(ruleFields.protocols),
    ports: Type.Optional(ruleFields.ports),
    enabled: Type.Optional(ruleFields.enabled),
    comment: Type.Optional(ruleFields.comment),
    expiresAt: Type.Optional(nullable(time())),
  },
  { minProperties: 1 },
);
export const Rule = closed({
  id: Type.Integer(),
  revision: Type.Integer({ description: 'For If-Match.' }),
  state: Type.Union([Type.Literal('active'), Type.Literal('disabled'), Type.Literal('expired')]),
  action: ruleFields.action,
  priority: Type.Integer(),
  sources: Type.Array(Type.String()),
  destinations: Type.Array(Type.String()),
  protocols: Type.Array(Type.Integer()),
  ports: Type.Array(Type.Array(Type.Integer())),
  enabled: Type.Boolean(),
  expiresAt: nullable(Type.String()),
  comment: Type.String(),
  createdAt: Type.String(),
  author: nullable(Type.String()),
});
export type RuleBody = Static<typeof Rule>;
export const RuleList = closed({ rules: Type.Array(Rule) });
export const RuleNumber = closed({ id: Type.String({ pattern: '^[1-9][0-9]{0,11}$' }) });

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
  line: nullable(Type.Integer({ description: "The deciding rule's line in the policy; null when no line decided." })),
  rule: nullable(Type.Integer({ description: 'The native rule that decided; null when none did.' })),
});
export const Explanation = closed({
  allowed: Type.Boolean(),
  reason: Type.String({ description: 'One sentence.' }),
  routed: nullable(Type.String({ description: 'The address behind the receiving peer that the answer is about.' })),
  matching: Type.Array(
    closed({
      line: nullable(Type.Integer({ description: 'In the policy file.' })),
      rule: nullable(Type.Integer({ description: 'Id of a native rule.' })),
      action: ruleFields.action,
      priority: Type.Integer(),
      shadowed: Type.Boolean({ description: 'Another rule decided before it.' }),
      text: Type.String({ description: "The line, or the rule's comment." }),
    }),
    { description: 'In the order in which they decide: the first one did. At most 100.' },
  ),
  matches: Type.Integer({ description: 'How many rules match.' }),
});
export const PacketFilter = closed({
  rules: Type.Array(
    closed({
      sources: Type.Array(Type.String()),
      destinations: Type.Array(Type.String()),
      protocols: Type.Array(Type.Integer()),
      ports: Type.Array(Type.Array(Type.Integer())),
    }),
    { description: 'What may come in, denies subtracted; everything else is dropped.' },
  ),
});
