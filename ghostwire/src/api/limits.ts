// What requests may hold at most, where client and server must agree.

/** Bytes of a policy: what fits into one journal value with room for the escapes of JSON. */
export const POLICY_LIMIT = 768 * 1024;
