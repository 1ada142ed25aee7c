// Every error that Ghostwire can answer with: one catalogue, one class.
//
// docs/errors.md holds the same table (a test compares them). Errors of zqlite keep their own code and pass through;
// only the HTTP status is chosen here.

/** What the catalogue says of one code. `status` is the HTTP status, or null where the error never travels over HTTP. */
export interface ErrorDescription {
  readonly status: number | null;
  /** Whether sending the same request again can succeed without anybody changing anything. */
  readonly retryable: boolean;
  readonly description: string;
}

const entry = (status: number | null, retryable: boolean, description: string): ErrorDescription => ({
  status,
  retryable,
  description,
});

export const CATALOGUE = {
  // Requests
  ERR_BODY_SYNTAX: entry(400, false, 'The request body is not valid JSON.'),
  ERR_BODY_TOO_LARGE: entry(413, false, 'The request body is larger than this route accepts.'),
  ERR_BODY_TYPE: entry(415, false, 'The content type of the body is not one that this route reads.'),
  ERR_REQUEST: entry(400, false, 'The request is not valid HTTP for this server.'),
  ERR_REQUEST_TIMEOUT: entry(408, true, 'The request did not arrive completely in time.'),
  ERR_VALIDATION: entry(400, false, 'A field of the request has the wrong type, form or size; `details.path` names it.'),
  ERR_NOT_FOUND: entry(404, false, 'No route has this path.'),
  ERR_METHOD_NOT_ALLOWED: entry(405, false, 'The path exists but not with this method; `details.allowed` lists the methods.'),
  ERR_RATE_LIMITED: entry(429, true, 'A peer changes what it says of itself too often; `details.retryAfterMs` says when it may again.'),
  ERR_UNAUTHORIZED: entry(401, false, 'The bearer token is missing, malformed, unknown, expired or revoked.'),
  ERR_STARTING: entry(503, true, 'The server has not read its state yet.'),
  ERR_SHUTTING_DOWN: entry(503, true, 'The server is stopping and takes no new work.'),
  ERR_CONTENTION: entry(503, true, 'Others kept changing the same records; the commit lost every attempt.'),
  ERR_OUTCOME_UNKNOWN: entry(503, false, 'The commit may or may not be durable; read before sending again.'),
  ERR_SERVER: entry(500, false, 'The server failed in a way that it has no word for: a bug.'),

  // Keys
  ERR_KEY_INVALID: entry(401, false, 'The pre-auth key is malformed, unknown, or its secret is wrong.'),
  ERR_KEY_EXPIRED: entry(403, false, 'The pre-auth key has expired.'),
  ERR_KEY_REVOKED: entry(403, false, 'The pre-auth key has been revoked.'),
  ERR_KEY_USED_UP: entry(403, false, 'The pre-auth key has been used as often as it allows.'),
  ERR_KEY_NOT_FOUND: entry(404, false, 'No key has this id.'),
  ERR_LAST_ADMIN_KEY: entry(409, false, 'This is the last working admin key; revoking it would lock everybody out.'),

  // Peers
  ERR_PEER_NOT_FOUND: entry(404, false, 'No peer has this id.'),
  ERR_PEER_EXISTS: entry(409, false, 'A peer with this WireGuard key is registered already.'),
  ERR_NAME_TAKEN: entry(409, false, 'Another peer has this name.'),
  ERR_WIREGUARD_KEY: entry(400, false, 'The WireGuard key is not the canonical base64 of 32 bytes, or is all zero.'),
  ERR_HOSTNAME: entry(400, false, 'The name is not an RFC 1123 label: 1 to 63 letters, digits and inner hyphens.'),
  ERR_USER: entry(400, false, 'The user is not of the form name@domain.'),
  ERR_USER_NOT_ALLOWED: entry(403, false, 'The pre-auth key is bound to another user.'),
  ERR_TAG: entry(400, false, 'The tag is not of the form tag:name.'),
  ERR_TAG_NOT_ALLOWED: entry(403, false, 'Neither the pre-auth key nor the policy lets this peer carry the tag.'),
  ERR_ROUTE: entry(400, false, 'The route is not a prefix without host bits, is IPv4-mapped IPv6, or was not advertised by the peer.'),
  ERR_ENDPOINT: entry(400, false, 'The endpoint is not of the form address:port.'),
  ERR_ADDRESS: entry(400, false, 'The address is not an IPv4 address, not within the network, or reserved.'),
  ERR_ADDRESS_TAKEN: entry(409, false, 'Another peer has this address, or it is kept for one.'),
  ERR_ADDRESSES_EXHAUSTED: entry(503, false, 'The pools have no free address; `details.nextFree` is when one that rests is free again, null if none does.'),

  // Policy
  ERR_POLICY_SYNTAX: entry(400, false, 'The policy is not HuJSON; `details.line` and `details.column` say where.'),
  ERR_POLICY_INVALID: entry(400, false, 'The policy says something impossible; `details.line` and `details.column` say where.'),
  ERR_POLICY_TOO_LARGE: entry(400, false, 'The rules are longer than a packet filter can be.'),
  ERR_POLICY_UNSUPPORTED: entry(400, false, 'The policy uses a part of the language that this version does not know.'),
  ERR_POLICY_CHANGED: entry(412, false, 'The policy is no longer at the version of If-Match; `details.version` is the current one.'),
  ERR_POLICY_VERSION: entry(404, false, 'The policy has no such version, or it is no longer kept.'),
  ERR_POLICY_LOSS: entry(null, false, 'Peers would lose something, and the command was told to fail then.'),
  ERR_RULE_INVALID: entry(400, false, 'A native rule says something impossible; `details.path` names the field.'),
  ERR_RULE_NOT_FOUND: entry(404, false, 'No native rule has this id.'),
  ERR_RULE_CHANGED: entry(412, false, 'The rule is no longer at the revision of If-Match; `details.revision` is the current one.'),
  ERR_RULE_LIMIT: entry(409, false, 'There are as many native rules as the coordinator keeps.'),

  // Journal
  ERR_JOURNAL_COMPACTED: entry(410, false, 'The revision is older than what the journal keeps; `details.oldest` is the oldest.'),
  ERR_JOURNAL_EPOCH: entry(409, false, 'The history was replaced; revisions of the other epoch mean nothing here.'),
  ERR_JOURNAL_AHEAD: entry(404, true, 'The journal has not reached this revision yet; `details.latest` is where it is.'),
  ERR_JOURNAL_CHANGE: entry(
    500,
    false,
    'The change contradicts itself, is empty, or holds a value without a JSON form: a bug of the caller.',
  ),
  ERR_JOURNAL_KEY: entry(400, false, 'A journal key is empty or holds other characters than visible ASCII.'),
  ERR_JOURNAL_LIMIT: entry(413, false, 'The commit has more keys or bytes than the journal takes.'),
  ERR_JOURNAL_CLOSED: entry(503, false, 'The journal is closed.'),
  ERR_JOURNAL_CORRUPT: entry(500, false, 'The journal in the database contradicts itself.'),
  ERR_JOURNAL_FORMAT: entry(null, false, 'The database holds something else than a journal, or one of a newer version.'),
  ERR_JOURNAL_PROJECTION: entry(null, false, 'A projection of the journal is declared wrongly: a bug.'),
  ERR_WATCH_SLOW: entry(503, true, 'The watcher did not keep up and was cut; `details` holds the position to resume from.'),

  // Sync
  ERR_SYNC_BATCH: entry(500, false, 'What was published contradicts itself or the state before it: a bug.'),
  ERR_SYNC_OPTION: entry(null, false, 'An option of the sync server is out of its range.'),
  ERR_SYNC_RECIPIENT: entry(404, false, 'The peer is not known to sync.'),
  ERR_SYNC_TOKENS_FULL: entry(503, true, 'Too many connection tokens are outstanding.'),

  // Start-up and command line
  ERR_CONFIG: entry(null, false, 'A configuration value is malformed, or the file cannot be read.'),
  ERR_CONFIG_UNKNOWN: entry(null, false, 'A configuration key, variable or flag does not exist; one that is near is named.'),
  ERR_PORT_TAKEN: entry(null, false, 'Another process listens on the address and port.'),
  ERR_LISTEN: entry(null, false, 'The address is not of this machine, or the port needs more rights.'),
  ERR_CERTIFICATE: entry(null, false, 'The certificate or its key cannot be read, do not belong together, or are not what was pinned.'),
  ERR_INSECURE: entry(null, false, 'The server is not on this machine and speaks plain text; `--insecure` allows it.'),
  ERR_USAGE: entry(null, false, 'The command line is incomplete or contradicts itself.'),
  ERR_UNREACHABLE: entry(null, true, 'The server did not answer.'),

  // Agent
  ERR_AGENT_RUNNING: entry(null, false, 'An agent runs on this machine already.'),
  ERR_AGENT_NOT_RUNNING: entry(null, false, 'No agent runs on this machine: `ghostwire up` starts one.'),
  ERR_AGENT_STATE: entry(null, false, "The agent's own files cannot be read or written."),
  ERR_AGENT_SYSTEM: entry(null, false, 'A tool that the agent needs is missing or failed: ip, wg, nft, wireguard-go.'),
  ERR_NETMAP_REFUSED: entry(null, false, 'The coordinator sent something that no honest one would; the last good state stays.'),
} as const satisfies Record<string, ErrorDescription>;

export type GhostwireErrorCode = keyof typeof CATALOGUE;

/** Facts about an error, safe to show to the caller: JSON values, never a secret. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

export class GhostwireError extends Error {
  override readonly name = 'GhostwireError';
  readonly code: GhostwireErrorCode;
  readonly retryable: boolean;
  readonly details: ErrorDetails;

  /** `message` names the input that was wrong. */
  constructor(code: GhostwireErrorCode, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.retryable = CATALOGUE[code].retryable;
    this.details = details;
  }
}

/** The HTTP status of zqlite's codes that a request can meet; every other one is a 500. */
const ZQLITE_STATUS: Readonly<Record<string, number>> = {
  ERR_BUSY: 503,
  ERR_QUEUE_FULL: 503,
  ERR_CLOSED: 503,
  ERR_DEADLINE: 503,
  ERR_POOL_TIMEOUT: 503,
  ERR_IO: 503,
  ERR_TOO_LARGE: 413,
  ERR_READONLY: 503,
  ERR_COMMIT_UNKNOWN: 503,
  ERR_DISK_FULL: 507,
  ERR_ACL_RULE: 400,
  ERR_CIDR_SYNTAX: 400,
};

interface CodedError extends Error {
  readonly code: string;
  readonly retryable: boolean;
}

/** Whether this is an error of ours or of zqlite: both carry `code` and `retryable`. */
export function isCoded(error: unknown): error is CodedError {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    'retryable' in error &&
    typeof error.retryable === 'boolean'
  );
}

/** The one shape of an error on the wire. */
export interface ErrorBody {
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly retryable: boolean;
    readonly details: ErrorDetails;
  };
}

/**
 * What to answer to a request that failed. An error without a code is a bug: its message stays in the log and out of
 * the answer, because it may quote anything.
 */
export function toResponse(error: unknown): { status: number; body: ErrorBody } {
  if (error instanceof GhostwireError) {
    const { code, message, retryable, details } = error;
    return { status: CATALOGUE[code].status ?? 500, body: { error: { code, message, retryable, details } } };
  }
  if (isCoded(error)) {
    const { code, message, retryable } = error;
    return { status: ZQLITE_STATUS[code] ?? 500, body: { error: { code, message, retryable, details: {} } } };
  }
  const message = 'The server failed unexpectedly; its log says more.';
  return { status: 500, body: { error: { code: 'ERR_SERVER', message, retryable: false, details: {} } } };
}
