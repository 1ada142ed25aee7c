/**
 * Many questions about addresses. `sources` and `destinations` have one number an address (IPv4, the first octet highest),
 * or four, the highest first (IPv6, where IPv4-mapped ones are IPv4).
 */
export declare type AclAddressBatch = AclBatch;

/** A question about two addresses. */
export declare interface AclAddressQuery extends Omit<AclQuery, 'source' | 'destination'> {
    /** The address that sends. */
    source: string;
    /** The address that receives. */
    destination: string;
}

/** Many questions about peers, of one time; the arrays have one length. */
export declare interface AclBatch {
    /** Ids of the peers that send. */
    sources: Uint32Array;
    /** Ids of the peers that receive. */
    destinations: Uint32Array;
    /** IANA protocol numbers. */
    protocols: Uint8Array;
    /** Destination ports; 0 for protocols that have none. */
    ports: Uint16Array;
    /** When, in milliseconds since 1970. Default: now. */
    at?: number;
    /**
     * Where the answers are written, for those who ask again and again: arrays of the same length, which share no memory with
     * the others. Default: new ones.
     */
    into?: AclDecisions;
}

/** Changes that are made together: first rules, then peers, and removals first. */
export declare interface AclChange {
    removeRules?: readonly number[];
    putRules?: readonly AclRule[];
    /** Ids of rules to enable. */
    enable?: readonly number[];
    /** Ids of rules to disable. */
    disable?: readonly number[];
    removePeers?: readonly number[];
    putPeers?: readonly AclPeer[];
}

/** An allow and a deny of one priority that can match the same traffic; the deny decides. */
export declare interface AclConflict {
    deny: number;
    allow: number;
}

/** An answer. */
export declare interface AclDecision {
    allowed: boolean;
    /** The rule that decided; `null` when none matches, which denies. */
    rule: number | null;
}

/** Answers to many questions, in their order. */
export declare interface AclDecisions {
    /** 1 where allowed, 0 where denied. */
    allowed: Uint8Array;
    /** The rules that decided; `NaN` where none matches, which denies. */
    rules: Float64Array;
}

/** What one engine lets pass and another does not. */
export declare interface AclDifference {
    /** Between peers. */
    pairs: AclPairCounts;
    /** From or to a range of addresses behind a router; each range counts as one. */
    behind: AclPairCounts;
    /** Peers that may send or be sent something else, or carry something else for others; ascending. */
    concerned: Uint32Array;
    /** What the rows name. */
    parties: AclParty[];
    /** Each pair of parties between which something else passes is in one row. */
    rows: AclDifferenceRow[];
    /** Whether the rows hold everything; they are cut at the limit. Counts and `concerned` are not. */
    complete: boolean;
}

/** What changes from each source to each destination that is another peer. */
export declare interface AclDifferenceRow {
    /** Indexes of {@link AclDifference.parties}. */
    sources: number[];
    /** Indexes of {@link AclDifference.parties}. */
    destinations: number[];
    /** What passes that did not. */
    gained: AclPassage[];
    /** What passed and does not. */
    lost: AclPassage[];
}

/**
 * Rules, peers, and the answers that follow from them. Every call is synchronous.
 *
 * Of the rules that match, the one with the highest priority decides; at equal priority deny goes before allow; when none
 * matches the answer is deny. The order in which rules were given never matters.
 *
 * A peer is one machine: a prefix or range that holds any of its addresses selects all of it, for allow and deny alike. An
 * address of no peer is selected by `'*'`, prefixes and ranges; it has no label and no owner. As a destination a peer also
 * stands for each address that it routes: it may be reached when it or one of them may be. So a subnet router is visible
 * to those who may reach at least one host behind it.
 *
 * A method that is given the id of a peer, rule or class that does not exist throws a `ZqliteError` `ERR_ACL_UNKNOWN`,
 * and `ERR_TYPE` for an argument of a wrong type or range. See `docs/acl.md` for how it works and what it costs.
 */
export declare class AclEngine {
    #private;
    /** @throws {ZqliteError} `ERR_TYPE` */
    constructor(options?: AclEngineOptions);
    /** An engine with the same rules and peers, at the cost of microseconds: neither sees later changes of the other. */
    snapshot(): AclEngine;
    /**
     * Replaces all rules.
     *
     * @throws {ZqliteError} `ERR_ACL_RULE` naming the rule and the field; then all rules stay as they were; `ERR_TYPE` for a
     *   field that rules do not have
     */
    setRules(rules: readonly AclRule[]): void;
    /**
     * Adds rules, or replaces those with the same ids.
     *
     * @throws {ZqliteError} `ERR_ACL_RULE` naming the rule and the field; then all rules stay as they were; `ERR_TYPE` for a
     *   field that rules do not have
     */
    putRules(rules: readonly AclRule[]): void;
    /** Removes rules; ids of none are passed over. */
    removeRules(ids: readonly number[]): void;
    /** Enables or disables a rule: one bit. */
    setEnabled(rule: number, enabled: boolean): void;
    /**
     * Notes which rules have expired at a time, in milliseconds since 1970, so that later questions need not look. No answer
     * depends on it. Default: now.
     */
    expire(at?: number): void;
    /**
     * Adds peers, or replaces those with the same ids. Peers put together may exchange addresses.
     *
     * @throws {ZqliteError} `ERR_ACL_RULE` naming the peer and the field, also when an address would belong to two; then
     *   all peers stay as they were
     */
    putPeers(peers: readonly AclPeer[]): void;
    /** Removes peers; ids of none are passed over. */
    removePeers(ids: readonly number[]): void;
    /** May one peer reach the other, or an address that it routes? */
    decide(query: AclQuery): AclDecision;
    /**
     * May one address reach the other? An address of a peer stands for that peer, without its routes.
     *
     * @throws {ZqliteError} `ERR_CIDR_SYNTAX` when a text is no address
     */
    decideAddresses(query: AclAddressQuery): AclDecision;
    /** As {@link decide}, for each question. */
    decideBatch(batch: AclBatch): AclDecisions;
    /** As {@link decideAddresses}, for each question. */
    decideAddressesBatch(batch: AclAddressBatch): AclDecisions;
    /** As {@link decide}, with every rule that matches. */
    explain(query: AclQuery): AclExplanation;
    /**
     * As {@link decideAddresses}, with every rule that matches.
     *
     * @throws {ZqliteError} `ERR_CIDR_SYNTAX` when a text is no address
     */
    explainAddresses(query: AclAddressQuery): AclExplanation;
    /**
     * Who gains and who loses what when another engine takes the place of this one: exact, for rules and peers alike. Best
     * asked of a {@link snapshot} in which something was changed. Both are compared as they are now, on a thread of its own.
     *
     * @param options.limit parties that all rows together name, about; default: 100000
     */
    difference(after: AclEngine, options?: {
        at?: number;
        limit?: number;
    }): Promise<AclDifference>;
    /**
     * The other peers that a peer sees, by ascending id: those where some protocol and port is allowed, whichever.
     */
    visiblePeers(peer: number, options?: AclVisibility): Uint32Array;
    /**
     * The class of a peer: peers of a class get the same answer to each question at each time, so that what is worked out
     * for one holds for all. Its number stays the same while the rules stay and the class has a peer.
     */
    peerClass(peer: number): number;
    /** As {@link peerClass}, for each of the peers. */
    peerClasses(peers: Uint32Array): Uint32Array;
    /**
     * The classes whose peers a peer of this class sees, by ascending number. The class itself is among them when its peers
     * may see each other, even if there is only one.
     */
    visibleClasses(peerClass: number, options?: AclVisibility): Uint32Array;
    /**
     * The peers, by ascending id, whose visible peers in either direction or whose packet filter a change would change. The
     * change is not made. A peer that is not there sees nobody.
     *
     * @param at milliseconds since 1970; default: now
     * @throws {ZqliteError} `ERR_ACL_RULE` when the change could not be made
     */
    affected(change: AclChange, at?: number): Uint32Array;
    /**
     * What a peer and what it routes may be sent, without denies: they are subtracted. Exactly what
     * {@link decideAddresses} allows.
     *
     * @param at milliseconds since 1970; default: now
     */
    packetFilter(peer: number, at?: number): AclFilterRule[];
    /**
     * The rules that have no effect, by ascending id. Rules that only several others together shadow are not among them.
     *
     * @param at milliseconds since 1970; default: now
     */
    unusedRules(at?: number): AclUnusedRule[];
    /**
     * Pairs of an allow and a deny of one priority that can match the same traffic, ascending.
     *
     * @param limit how many at most; default: 1000
     */
    conflicts(options?: {
        at?: number;
        limit?: number;
    }): AclConflict[];
    /** Bytes that the index of rules takes. */
    get memory(): number;
}

/** How an {@link AclEngine} is made. */
export declare interface AclEngineOptions {
    /**
     * Bytes that the engine may take for its index of rules. Beyond, answers about peers and addresses that come later take
     * longer, in proportion to the rules that select them. Default: 268435456 (256 MiB).
     */
    memory?: number;
}

/** An answer with all that led to it. */
export declare interface AclExplanation extends AclDecision {
    /** The address behind the receiving peer that the answer is about; `null` when it is about the peer itself. */
    routed: string | null;
    /** Every rule that matches, in the order in which they would decide: the first one did. */
    matching: AclMatch[];
}

/** What may come in: from one of the sources to one of the destinations, on one of the protocols and ports. */
export declare interface AclFilterRule {
    /** Prefixes and ranges, ascending, none of which overlap. */
    sources: string[];
    /** Of the peer's own addresses, or that it routes. */
    destinations: string[];
    /** IANA protocol numbers. Empty: all. */
    protocols: number[];
    /** Ranges of ports, both ends within. Empty: all, and no port at all. */
    ports: [low: number, high: number][];
}

/**
 * Rules and peers in tables: `CREATE INDEX name ON rules USING acl(source, destination, protocol, ports, priority, action,
 * enabled, expires_at, same_owner, through, family) WITH (peers = …, labels = …, owners = …, routes = …)`. Every call is about
 * what is committed when it is made, and never waits.
 *
 * Calls throw a {@link ZqliteError}: `ERR_ACL_UNKNOWN` for a peer that is in none of the tables, `ERR_CIDR_SYNTAX` for what is
 * no address, `ERR_TYPE` for other arguments that cannot be, `ERR_INDEX_UNKNOWN` when the index was dropped,
 * `ERR_INDEX_UNUSABLE` when it cannot answer, `ERR_CLOSED`.
 */
export declare interface AclIndex {
    /** May one reach the other? */
    decide(query: AclIndexQuery): AclDecision;
    /** As {@link decide} by ids of peers, for each question; all of one moment. */
    decideBatch(batch: AclBatch): AclDecisions;
    /** As {@link decide} by addresses, for each question; all of one moment. */
    decideAddressesBatch(batch: AclAddressBatch): AclDecisions;
    /** As {@link decide}, with every rule that matches. */
    explain(query: AclIndexQuery): AclReasons;
    /**
     * An engine with the rules and peers that are committed now, for whatever else can be asked of them: who sees whom, whom a
     * change would concern, packet filters. It costs microseconds, neither sees later changes of the other.
     */
    snapshot(): AclEngine;
}

/** A question: may `source` reach `destination`? Both are ids of peers, or both addresses. */
export declare interface AclIndexQuery {
    source: number | string;
    destination: number | string;
    /** IANA protocol number. */
    protocol: number;
    /** Destination port; 0 for protocols that have none. */
    port: number;
    /** When, in milliseconds since 1970. Default: now. */
    at?: number;
}

/** A rule that matches a question. */
export declare interface AclMatch {
    rule: number;
    action: 'allow' | 'deny';
    priority: number;
    /** Whether another rule decided before it. */
    shadowed: boolean;
}

/** Ordered pairs, sender first. */
export declare interface AclPairCounts {
    /** Something passes that did not. */
    gaining: number;
    /** Something no longer passes. */
    losing: number;
    /** Of the gaining ones, those where nothing passed. */
    opened: number;
    /** Of the losing ones, those where nothing passes any more. */
    closed: number;
}

/** Peers that fare alike, or addresses behind routers: one of the two is there. */
export declare interface AclParty {
    /** Ids, ascending. */
    peers?: Uint32Array;
    /** A prefix or range that some peer routes; addresses in it that belong to peers are not meant. */
    addresses?: string;
}

/** Protocols and ports. */
export declare interface AclPassage {
    /** IANA protocol numbers, ascending. Empty: all. */
    protocols: number[];
    /** Ranges of ports, both ends within, ascending. Empty: all, and no port at all. */
    ports: [low: number, high: number][];
}

/** One machine of the network. */
export declare interface AclPeer {
    /** Unique among the peers; an integer from 0 to 2^32-1. */
    id: number;
    /** Its own addresses. No two peers share one. */
    addresses: readonly string[];
    /** What rules may select it by. A label for its owner is not implied. */
    labels: readonly string[];
    /** Whose it is; compared only by rules with `sameOwner`. */
    owner?: string;
    /** Prefixes of subnets that it forwards to. Peers may share them. */
    routes?: readonly string[];
}

/** A question about two peers. */
export declare interface AclQuery {
    /** Id of the peer that sends. */
    source: number;
    /** Id of the peer that receives. */
    destination: number;
    /** IANA protocol number. */
    protocol: number;
    /** Destination port; 0 for protocols that have none. */
    port: number;
    /** When, in milliseconds since 1970. Default: now. */
    at?: number;
}

/** An answer with every rule that matches, in the order in which they would decide: the first one did. */
export declare interface AclReasons extends AclDecision {
    matching: AclMatch[];
}

/** One rule. It matches when it is enabled, not expired, and each of its parts matches. */
export declare interface AclRule {
    /** Unique among the rules; an integer from 0 to 2^53-1. */
    id: number;
    /** Higher decides first; a 32-bit integer. */
    priority: number;
    /** At equal priority deny decides first. */
    action: 'allow' | 'deny';
    /** Default: true. */
    enabled?: boolean;
    /**
     * Where traffic comes from: any one of these, and at least one. `'*'`, an address or prefix, an address range
     * `'10.0.0.1-10.0.0.9'`, or a label `'tag:web'`, `'group:ops'`, `'user:ann@example.com'`, `'peer:laptop'`.
     */
    sources: readonly string[];
    /** Where traffic goes, as in {@link sources}. */
    destinations: readonly string[];
    /** IANA protocol numbers: 1 ICMP, 6 TCP, 17 UDP. Absent or empty: all. */
    protocols?: readonly number[];
    /** Ranges of destination ports, both ends within. Absent or empty: all. */
    ports?: readonly (readonly [low: number, high: number])[];
    /** Milliseconds since 1970 from which on the rule no longer matches. */
    expiresAt?: number;
    /** Match only between peers that have the same owner. Default: false. */
    sameOwner?: boolean;
    /**
     * Labels such as `'tag:exit'`: match only what arrives at a peer that bears one of them, as the destination itself or as the
     * router of the address. An address by itself is matched when some peer that routes it bears one. Absent or empty: any.
     * Only for rules that allow.
     */
    through?: readonly string[];
    /**
     * Match only packets of this version of IP. A question about peers is about any of their addresses, and there the rule matches
     * as if it had none: name one only where both sides have an address of it. Absent: both. Only for rules that allow.
     */
    family?: 4 | 6;
}

/** A rule that has no effect. */
export declare interface AclUnusedRule {
    rule: number;
    /** `selects-nobody`: one side names nothing but labels that no peer bears; `shadowed`: {@link by} always decides before it. */
    reason: 'disabled' | 'expired' | 'selects-nobody' | 'shadowed';
    by?: number;
}

/** How to ask who sees whom. */
export declare interface AclVisibility {
    /**
     * Which way some traffic must be allowed: `'to'` the other, `'from'` the other, or `'either'`. Default: `'either'`.
     */
    direction?: 'to' | 'from' | 'either';
    /** When, in milliseconds since 1970. Default: now. */
    at?: number;
}

/** Options of {@link Database.backup}. */
export declare interface BackupOptions {
    /** Replace a file that is there; default false. */
    overwrite?: boolean;
    /** Pages copied at a time, 1 to 1,000,000; default 1,000. */
    pagesPerStep?: number;
    /** Rest between two steps, to leave the disk to others; default 0. */
    pause?: Duration;
    /** Told after each step, in pages. */
    progress?: (at: {
        remaining: number;
        total: number;
    }) => void;
    signal?: AbortSignal;
    /** It takes at most this long, else `ERR_DEADLINE`. */
    timeout?: Duration;
}

/** What a statement of a batch did and returned. */
export declare interface BatchResult<Row = Record<string, unknown>> extends ExecuteResult {
    rows: Row[];
}

/** A statement of a batch. */
export declare interface BatchStatement {
    sql: string;
    params?: Params;
    /** A guard: the batch is rolled back with `ERR_EXPECTATION_FAILED` unless this many rows are returned or changed. */
    expect?: {
        rows?: number;
        changes?: number;
    };
}

/**
 * The rows of a table by what its columns hold: `CREATE INDEX name ON table USING bitmap(columns)`. Every call is about what
 * is committed when it is made, and never waits; the table is not touched.
 *
 * A filter is what may stand behind WHERE, without functions and arithmetic: comparisons of a column with a literal, `IN`,
 * `BETWEEN`, `IS [NOT] NULL`, `AND`, `OR`, `NOT`, parentheses. It means what SQLite would make of it.
 *
 * Calls throw a {@link ZqliteError}: `ERR_FILTER_SYNTAX` with the place, `ERR_INDEX_UNKNOWN` when the index was dropped,
 * `ERR_INDEX_UNUSABLE` when it cannot answer, `ERR_CLOSED`.
 */
export declare interface BitmapIndex {
    /** The ids of the rows of which `filter` is true, ascending. */
    rows(filter: string): BigInt64Array;
    /** How many they are. */
    count(filter: string): number;
}

/** Options of a single call. */
export declare interface CallOptions {
    /** Waiting and running together take at most this long, else `ERR_DEADLINE`. */
    timeout?: Duration;
    /** Gives the call up: it rejects with `ERR_CANCELLED` and nothing of it remains, unless it was past the point of no return. */
    signal?: AbortSignal;
}

/** How far {@link Database.checkpoint} goes. */
export declare type CheckpointMode = 'passive' | 'full' | 'restart' | 'truncate';

/** What a checkpoint did. */
export declare interface CheckpointResult {
    /** Whether a reader or writer kept it from going all the way. */
    busy: boolean;
    /** Pages in the write-ahead log, and how many of them are in the database file now. */
    logFrames: number;
    checkpointedFrames: number;
}

/**
 * Addresses of a batch: IPv4 as numbers, IPv6 as 16 bytes each in network order, or texts of either family. Not in a
 * SharedArrayBuffer, which other threads could change meanwhile.
 */
export declare type CidrAddresses = Uint32Array | Uint8Array | readonly string[];

/** The longest prefix that holds an address. */
export declare interface CidrHit {
    /** In its canonical text. */
    prefix: string;
    /** The rows that have this prefix, in order. */
    rows: RowId[];
}

/**
 * The rows of a table by the prefix in one of its columns: `CREATE INDEX name ON table USING cidr(column)`. Every call is
 * about what is committed when it is made, and never waits.
 *
 * Calls throw a {@link ZqliteError}: `ERR_CIDR_SYNTAX` for what is no address, `ERR_INDEX_UNKNOWN` when the index was
 * dropped, `ERR_INDEX_UNUSABLE` when it cannot answer, `ERR_CLOSED`.
 */
export declare interface CidrIndex {
    /** The longest prefix that holds `address`, with its rows. */
    lookup(address: string): CidrHit | undefined;
    /** Each row whose prefix holds `address`, shortest prefix first. */
    matches(address: string): CidrRow[];
    /**
     * For each address the first row of the longest prefix that holds it, or {@link NO_ROW}; all of one moment.
     *
     * @param out an array for the answer, with room for it; default: a new one
     * @throws {ZqliteError} `ERR_TYPE` for arrays of other kinds or sizes, in a SharedArrayBuffer, or without their memory
     */
    lookupBatch(addresses: CidrAddresses, out?: BigInt64Array): BigInt64Array;
}

/** A prefix of a table, in its canonical text, with its value. */
export declare interface CidrMatch {
    prefix: string;
    value: number;
}

/** A row whose prefix holds an address. */
export declare interface CidrRow {
    /** In its canonical text. */
    prefix: string;
    row: RowId;
}

/**
 * Values by IP prefix, IPv4 and IPv6 side by side: which prefixes hold this address, and which of them is the longest?
 * Every call is synchronous.
 *
 * Texts are read strictly: four decimal octets, no leading zeros, no zone ids, no blanks, no bits behind the prefix
 * length. An address alone is the prefix of its full length. What is IPv4-mapped (`::ffff:10.0.0.1`, and prefixes of /96
 * and longer there) is IPv4; no other IPv6 prefix, not even `::/0`, holds an IPv4 address. Texts that come back are
 * canonical (RFC 5952), prefixes always with their length.
 *
 * Every method that takes a text throws a {@link ZqliteError} `ERR_CIDR_SYNTAX` that names the place when it is no
 * address, prefix or range, and `ERR_TYPE` when it is no string.
 */
export declare class CidrTable {
    #private;
    /**
     * The value of the longest prefix that holds `address`: as {@link lookup}, without naming the prefix, and several times
     * faster. A function of its own, to be called with or without the table before it.
     *
     * @param address a text, or an IPv4 address as a number: an integer from 0 to 2^32-1
     */
    readonly lookupValue: (address: string | number) => number | undefined;
    /** @throws {ZqliteError} `ERR_TYPE` for a wrong option */
    constructor(options?: CidrTableOptions);
    /**
     * Gives `prefix` this value, in place of the one it had.
     *
     * @param value an integer from 0 to 2^32-1
     * @throws {ZqliteError} `ERR_TYPE` for another value
     */
    insert(prefix: string, value: number): void;
    /**
     * Gives each prefix the value at its place. Faster than one by one; nothing is changed if one prefix is not valid.
     *
     * @throws {ZqliteError} `ERR_TYPE` unless there are as many values as prefixes, and for values in a SharedArrayBuffer
     */
    insertAll(prefixes: readonly string[], values: Uint32Array): void;
    /** Gives each of the fewest prefixes that make up a range `first-last` this value. */
    insertRange(range: string, value: number): void;
    /** Removes `prefix` itself, not those within it; whether it was there. */
    remove(prefix: string): boolean;
    /** The value of `prefix` itself. */
    get(prefix: string): number | undefined;
    /** The longest prefix that holds `address`, as a router would choose. */
    lookup(address: string): CidrMatch | undefined;
    /**
     * The value of the longest prefix of each address, at its place in `out`. All addresses are answered from the table as
     * it is when the call begins. One address of a large batch costs a fraction of what it costs alone.
     *
     * @param out room for as many values, in other memory than `addresses`. In a `Uint32Array` 2^32-1 stands for no match,
     *   in a `Float64Array` -1, which no value can be. Default: a new `Uint32Array`
     * @throws {ZqliteError} `ERR_TYPE` for arrays of other kinds or sizes, in a SharedArrayBuffer, or without their memory
     */
    lookupBatch(addresses: CidrAddresses): Uint32Array;
    lookupBatch<Out extends Uint32Array | Float64Array>(addresses: CidrAddresses, out: Out): Out;
    /** Each prefix that holds `address`, shortest to longest. */
    matches(address: string): CidrMatch[];
    /** Each prefix that covers `prefix`, itself included, shortest to longest. */
    covering(prefix: string): CidrMatch[];
    /** Each prefix that `prefix` covers, itself included, sorted. */
    covered(prefix: string): CidrMatch[];
    /** Each prefix that lies in a range `first-last`, sorted. */
    within(range: string): CidrMatch[];
    /** All of the table, sorted: IPv4 first, a prefix before those that it covers. */
    entries(): CidrMatch[];
    /** The addresses that lie in some prefix, as the fewest ranges `first-last`, sorted. */
    ranges(): string[];
    /** Whether some address lies in a prefix of this table and in `other`, a prefix or another table. */
    overlaps(other: string | CidrTable): boolean;
    /**
     * The first prefix of `length` bits within `pool` that overlaps no longer prefix than the pool, or `undefined` when the
     * pool is full. Prefixes that cover the pool, itself included, do not count as taken.
     *
     * @param length default: that of an address, so that the next free address is found
     */
    nextFree(pool: string, length?: number): string | undefined;
    /**
     * Gives what {@link nextFree} would find this value, so that it is taken: faster than finding and inserting. An `undefined`
     * answer changed nothing.
     *
     * @param value an integer from 0 to 2^32-1
     */
    allocate(pool: string, value: number, length?: number): string | undefined;
    /** The table as bytes, for {@link load}. */
    save(): Uint8Array;
    /**
     * A table as it was saved; options are not. What makes lookups in a large table fast is made by the first of them: some 30 ms
     * for a million prefixes.
     *
     * @throws {ZqliteError} `ERR_CORRUPT` for bytes that no table was saved as, whatever they are; `ERR_TYPE` for bytes in a
     *   SharedArrayBuffer
     */
    static load(bytes: Uint8Array, options?: CidrTableOptions): CidrTable;
    /** The fewest prefixes that together are a range `first-last`, sorted. */
    static rangeToPrefixes(range: string): string[];
    /** How many prefixes the table holds. */
    get size(): number;
    /** Bytes of memory that the table takes. */
    get memory(): number;
}

/** How a {@link CidrTable} is made. */
export declare interface CidrTableOptions {
    /**
     * `'fast'` spends memory (at least 2 MiB) and time of changes on faster lookups; `'compact'` does so only for large
     * tables and less. Default: `'compact'`.
     */
    mode?: 'compact' | 'fast';
    /** What to do about bits behind a prefix length: `10.0.0.1/8` is an error, or `10.0.0.0/8`. Default: `'reject'`. */
    hostBits?: 'reject' | 'mask';
}

/** A column of a result: numbers only, or any values (integers beyond ±(2^53-1) are bigints). */
export declare type Column = Float64Array | (number | bigint | string | Uint8Array | null)[];

/** Whole columns of a result. */
export declare interface Columns {
    rows: number;
    /**
     * By name: a `Float64Array` where every value is a number, also where there is none, else an array of values. Of columns
     * that share a name the last one stands.
     */
    columns: Record<string, Column>;
}

/**
 * A database file, or one in memory. Every call returns at once and is answered from a lane: reads from one of several
 * reader threads, each statement on its own snapshot; writes from the one writer thread, where independent writes that
 * wait together share one commit. A write's promise resolves when the change is on disk, and whatever is asked after that
 * sees it.
 */
export declare class Database {
    #private;
    private constructor();
    /**
     * Opens a file, creating it (mode 0600) when there is none, or `':memory:'`. One process owns a file; threads of that
     * process share it.
     *
     * @throws {ZqliteError} `ERR_LOCKED_BY_PROCESS`, `ERR_CANNOT_OPEN`, `ERR_NOT_A_DATABASE`, `ERR_CORRUPT`,
     *   `ERR_DISK_FULL`, `ERR_IO`, or `ERR_TYPE` for a wrong option
     */
    static open(path: string, options?: DatabaseOptions): Promise<Database>;
    /** Runs one writing statement. Its promise resolves when the change is on disk. */
    execute(sql: string, params?: Params, options?: CallOptions): Promise<ExecuteResult>;
    /** Runs one statement and returns all of its rows, also those of `… RETURNING`. Integers beyond ±(2^53-1) are bigints. */
    query<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row[]>;
    /** Runs one statement and returns its first row. */
    get<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row | undefined>;
    /** As {@link query}, each row an array in the order of the columns: also of those that share a name. */
    values(sql: string, params?: Params, options?: CallOptions): Promise<unknown[][]>;
    /** As {@link query}, whole columns instead of rows: numbers in typed arrays. */
    columns(sql: string, params?: Params, options?: CallOptions): Promise<Columns>;
    /**
     * The rows of a reading statement one after the other, for results that memory should not hold at once. It has a
     * connection of its own until the last row, or until the loop is left; the rows are of the moment of the first one.
     *
     * @throws {ZqliteError} from `next()`; `ERR_SNAPSHOT_TOO_OLD` when it keeps the write-ahead log at its limit and takes longer
     *   than 30 s, or writes wait and nothing was taken of it for 2 s
     */
    stream<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): RowStream<Row>;
    /** A statement to run again and again. What is wrong with it shows when it first runs. */
    prepare<Row = Record<string, unknown>>(sql: string): Statement<Row>;
    /**
     * The first row of a reading statement, at once, on this thread: for a lookup in a table that is in memory anyway.
     * Nothing else happens on this thread meanwhile, so it waits for no lock, and has a budget of steps (`syncSteps` of
     * {@link DatabaseOptions}). It sees what was committed before. Only on `':memory:'`, which has one connection, it waits for
     * what the writer is at.
     *
     * @throws {ZqliteError} `ERR_STEP_BUDGET`; `ERR_NOT_ALLOWED` for a statement that writes; on `':memory:'`
     *   `ERR_TRANSACTION_STATE` while a transaction goes on
     */
    getSync<Row = Record<string, unknown>>(sql: string, params?: Params): Row | undefined;
    /** All rows of a reading statement, at once; see {@link getSync}. */
    allSync<Row = Record<string, unknown>>(sql: string, params?: Params): Row[];
    /**
     * Runs one writing statement at once, on this thread, which waits until the change is on disk: nothing else happens on it
     * meanwhile, so this is for scripts and for what starts up. While other writes wait it waits its turn among them.
     *
     * @throws {ZqliteError} as {@link execute}; `ERR_TRANSACTION_STATE` while a transaction of this thread goes on in the
     *   same file
     */
    executeSync(sql: string, params?: Params, options?: SyncCallOptions): ExecuteResult;
    /** As {@link executeBatchTransaction}, at once, on this thread; see {@link executeSync}. */
    executeBatchTransactionSync(statements: readonly BatchStatement[], options?: SyncCallOptions): BatchResult[];
    /**
     * Runs several independent statements in one trip. Each succeeds or fails for itself, as with `Promise.allSettled`;
     * those that write share commits.
     */
    executeBatch(statements: readonly BatchStatement[], options?: CallOptions): Promise<PromiseSettledResult<BatchResult>[]>;
    /**
     * Runs several statements in order, all or nothing, in one trip; it shares its commit with other writes that wait. With
     * {@link BatchStatement.expect} a conditional change needs no callback.
     *
     * @throws {ZqliteError} of the first statement that fails, with its index in `statement`; nothing of the batch remains
     */
    executeBatchTransaction(statements: readonly BatchStatement[], options?: CallOptions): Promise<BatchResult[]>;
    /**
     * Runs `callback` in a transaction of its own, which owns the writer lane until the callback's promise settles: it is
     * committed when that resolves, rolled back when it rejects. It may take 5 s in all and leave the lane idle for 1 s
     * (`transactions` of {@link DatabaseOptions}); prefer {@link executeBatchTransaction} where the steps are known.
     */
    transaction<T>(callback: (transaction: Transaction) => Promise<T>, options?: TransactionOptions): Promise<T>;
    /**
     * The index of kind `cidr` with this name, to be asked at once, on this thread.
     *
     * @throws {ZqliteError} `ERR_INDEX_UNKNOWN`, `ERR_INDEX_UNUSABLE`
     */
    cidr(name: string): CidrIndex;
    /**
     * The index of kind `bitmap` with this name, to be asked at once, on this thread.
     *
     * @throws {ZqliteError} `ERR_INDEX_UNKNOWN`, `ERR_INDEX_UNUSABLE`
     */
    bitmap(name: string): BitmapIndex;
    /**
     * The index of kind `acl` with this name, to be asked at once, on this thread.
     *
     * @throws {ZqliteError} `ERR_INDEX_UNKNOWN`, `ERR_INDEX_UNUSABLE`
     */
    acl(name: string): AclIndex;
    /** SQLite's plan for a statement, which is not run. */
    explainQuery(sql: string, params?: Params, options?: CallOptions): Promise<QueryPlanStep[]>;
    /**
     * Asks, beside all lanes, whether the database can be read. What is wrong is told in the answer, also that there was none
     * within `timeout` (default: `pool.connectionTimeout`); it rejects only when it is cancelled or the database was closed before.
     */
    healthCheck(options?: CallOptions): Promise<Health>;
    /**
     * Copies the database as it is now to another file, while reads and writes go on. The copy has its name only when it is
     * complete and on disk. It needs no more memory than a few pages; the write-ahead log grows by what is written meanwhile.
     *
     * @returns the pages copied
     * @throws {ZqliteError} `ERR_CANNOT_OPEN` when the file is there already, comes to be meanwhile, is in use, or cannot be made,
     *   `ERR_LOCKED_BY_PROCESS` when another process uses it or another backup goes there, `ERR_BUSY` when another program keeps the
     *   unfinished copy locked, `ERR_DISK_FULL`, `ERR_IO`, `ERR_CANCELLED`, `ERR_DEADLINE`;
     *   `ERR_NOT_ALLOWED` for `':memory:'`
     */
    backup(path: string, options?: BackupOptions): Promise<number>;
    /** Moves the write-ahead log into the database file. That happens by itself; this is for who copies the file. */
    checkpoint(mode?: CheckpointMode, options?: CallOptions): Promise<CheckpointResult>;
    /** Rewrites the file without its free pages. Writes wait meanwhile; the file's size is needed once more on disk. */
    vacuum(options?: CallOptions): Promise<void>;
    /** The size of the database and what it consists of. */
    stats(options?: CallOptions): Promise<DatabaseStats>;
    /** The counters now. */
    metrics(): Metrics;
    /** The counters as Prometheus reads them: text format 0.0.4, or OpenMetrics 1.0. */
    prometheus(format?: 'prometheus' | 'openmetrics'): string;
    /** Adds the counters to a registry of the package prom-client. Returns what takes them out again, to be called before {@link close}. */
    registerPromClient(register: PromClientRegistry): () => void;
    /**
     * Brings the file to the newest version: applies the migrations that it has not seen, in order, each in a transaction.
     *
     * @param migrations a list, or a folder of files such as `0001_peers.sql`
     * @throws {ZqliteError} `ERR_MIGRATION` when one that was applied is missing or was changed, or newer code has been here
     */
    migrate(migrations: readonly Migration<Transaction>[] | string | URL, options?: MigrateOptions): Promise<MigrationResult>;
    /**
     * Refuses new calls, ends streams (with `ERR_CLOSED`, as they may be read at any pace), waits for the other calls in flight and
     * for transactions, closes the file. Calling it again waits for the same.
     *
     * @throws {ZqliteError} `ERR_TRANSACTION_STATE` within a transaction's callback, which it would wait for
     */
    close(): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
}

/** Options of {@link Database.open}. */
export declare interface DatabaseOptions {
    /** Open an existing file without writing; default false. */
    readonly?: boolean;
    /**
     * Let other processes that open it shared use the file too; default false. Writes of another process are waited for, at
     * most 5 s, then `ERR_BUSY`. See docs/database.md for what it costs.
     */
    shared?: boolean;
    /** The page cache of all connections together; default 64 MB. */
    cacheSize?: Size;
    /** Whether independent writes that wait together share one commit (group commit); default true. */
    parallelWrites?: boolean;
    pool?: PoolOptions;
    transactions?: TransactionLimits;
    wal?: WalLimits;
    /** Further database files by the name of their schema. Commits that change several files are atomic in each, not across. */
    attach?: Record<string, string | {
        path: string;
        readonly?: boolean;
    }>;
    /**
     * Pragmas for every connection, other than those that zqlite sets itself; `page_size`, `auto_vacuum` and `encoding` hold for
     * a new file, those that begin with `zqlite_` for the database.
     */
    pragmas?: Record<string, string | number | boolean>;
    /** SQLite's run-time limits for every connection. */
    limits?: Limits;
    /** Shared libraries with SQL functions or virtual tables to load into every connection; default none. */
    extensions?: readonly string[];
    /** Tells of calls that take long. */
    slowQuery?: SlowQueryOptions;
    /** Is told of opening, closing, backups, migrations, slow calls, and of a commit whose outcome is unknown. */
    logger?: Logger;
    /** Steps of SQLite's virtual machine that a synchronous call may take; default 10 million, some hundred milliseconds. */
    syncSteps?: number;
}

/** The size of a database. */
export declare interface DatabaseStats {
    /** Bytes of the file, without the write-ahead log. */
    bytes: number;
    walBytes: number;
    pageSize: number;
    pageCount: number;
    /** Pages that deleted rows left; {@link Database.vacuum} gives them back. */
    freePages: number;
    tables: number;
    indexes: number;
}

/** Milliseconds, or a number with a unit: `'250ms'`, `'30s'`, `'10m'`, `'1h'`. */
export declare type Duration = number | string;

/** How long the calls of one operation took, from being made to their answer. */
export declare interface DurationHistogram extends Histogram {
    operation: 'read' | 'write' | 'transaction' | 'stream' | 'sync';
    lane: 'reader' | 'writer' | 'stream' | 'sync';
}

/** Every code with what it means and whether the same call may succeed later without being changed. */
export declare const errorCatalogue: {
    readonly ERR_SQL: {
        readonly retryable: false;
        readonly description: 'SQLite refused the statement: a syntax error, an unknown name, or a run-time failure such as an overflow.';
    };
    readonly ERR_CONSTRAINT: {
        readonly retryable: false;
        readonly description: 'A UNIQUE, CHECK, NOT NULL, PRIMARY KEY, foreign-key or trigger constraint refused the change.';
    };
    readonly ERR_EXPECTATION_FAILED: {
        readonly retryable: false;
        readonly description: 'A statement of a batch returned another number of rows or changes than it was told to expect; the batch was rolled back.';
    };
    readonly ERR_PARAMETERS: {
        readonly retryable: false;
        readonly description: 'The parameters do not fit the statement: too few, too many, or an unknown name.';
    };
    readonly ERR_TYPE: {
        readonly retryable: false;
        readonly description: 'A value or option has a type or range that is not accepted.';
    };
    readonly ERR_NOT_ALLOWED: {
        readonly retryable: false;
        readonly description: 'The statement changes the state of a connection (transaction control, TEMP, ATTACH, a connection pragma, changes()), which calls share.';
    };
    readonly ERR_CLOSED: {
        readonly retryable: false;
        readonly description: 'The database is closed or closing.';
    };
    readonly ERR_BUSY: {
        readonly retryable: true;
        readonly description: "Another process holds SQLite's lock on the file.";
    };
    readonly ERR_LOCKED_BY_PROCESS: {
        readonly retryable: true;
        readonly description: 'Another process owns the database file.';
    };
    readonly ERR_QUEUE_FULL: {
        readonly retryable: true;
        readonly description: 'Too many calls are waiting; nothing was started.';
    };
    readonly ERR_DEADLINE: {
        readonly retryable: true;
        readonly description: "The call's time ran out; it was rolled back.";
    };
    readonly ERR_POOL_TIMEOUT: {
        readonly retryable: true;
        readonly description: 'No connection was free within connectionTimeout; nothing was started.';
    };
    readonly ERR_CANCELLED: {
        readonly retryable: false;
        readonly description: 'The caller cancelled the call; it was rolled back.';
    };
    readonly ERR_SNAPSHOT_TOO_OLD: {
        readonly retryable: true;
        readonly description: 'A read held its snapshot for so long that the write-ahead log could not be kept within its limit.';
    };
    readonly ERR_STEP_BUDGET: {
        readonly retryable: false;
        readonly description: 'A synchronous call took more steps than it may take on the JavaScript thread; make it an asynchronous one.';
    };
    readonly ERR_TRANSACTION_TIMEOUT: {
        readonly retryable: true;
        readonly description: 'A callback transaction held the writer lane for too long, or left it idle; it was rolled back.';
    };
    readonly ERR_TRANSACTION_STATE: {
        readonly retryable: false;
        readonly description: 'The call does not fit the state of the transaction: it has ended, or a database object was used within its own callback, or at once on its thread.';
    };
    readonly ERR_READONLY: {
        readonly retryable: false;
        readonly description: 'The database was opened read-only, or went read-only after a failed commit; reopen it.';
    };
    readonly ERR_COMMIT_UNKNOWN: {
        readonly retryable: false;
        readonly description: 'The disk failed during COMMIT: the change may or may not survive. The database is read-only until it is reopened.';
    };
    readonly ERR_DISK_FULL: {
        readonly retryable: true;
        readonly description: 'The disk, or a limit on the size of the database, is full; nothing was changed.';
    };
    readonly ERR_IO: {
        readonly retryable: true;
        readonly description: 'Reading or writing the file failed; nothing was changed.';
    };
    readonly ERR_CORRUPT: {
        readonly retryable: false;
        readonly description: 'The database file is damaged.';
    };
    readonly ERR_NOT_A_DATABASE: {
        readonly retryable: false;
        readonly description: 'The file is not a SQLite database, or is encrypted.';
    };
    readonly ERR_CANNOT_OPEN: {
        readonly retryable: false;
        readonly description: 'The database file cannot be opened: the folder is missing, or permission is denied.';
    };
    readonly ERR_TOO_LARGE: {
        readonly retryable: false;
        readonly description: 'A value, a statement or a request is larger than the limit.';
    };
    readonly ERR_OUT_OF_MEMORY: {
        readonly retryable: true;
        readonly description: 'There was not enough memory for the call.';
    };
    readonly ERR_MIGRATION: {
        readonly retryable: false;
        readonly description: 'The migrations given and those applied to the file do not agree: one was changed or is missing, or the file was migrated by newer code; nothing was changed.';
    };
    readonly ERR_CIDR_SYNTAX: {
        readonly retryable: false;
        readonly description: 'The text is not an address, prefix or range.';
    };
    readonly ERR_ACL_RULE: {
        readonly retryable: false;
        readonly description: 'The access rule or peer is not valid.';
    };
    readonly ERR_ACL_UNKNOWN: {
        readonly retryable: false;
        readonly description: 'No peer or class of the engine has this number.';
    };
    readonly ERR_ADDON: {
        readonly retryable: false;
        readonly description: 'The native addon does not load: no prebuilt binary is installed for this platform, or the system refuses it.';
    };
    readonly ERR_INDEX_DEFINITION: {
        readonly retryable: false;
        readonly description: 'The index cannot be: its kind, table, columns or options are wrong, or its name is taken.';
    };
    readonly ERR_INDEX_ROW: {
        readonly retryable: false;
        readonly description: 'A row does not fit an index of its table: a value does not parse; nothing was changed.';
    };
    readonly ERR_INDEX_UNKNOWN: {
        readonly retryable: false;
        readonly description: 'There is no index of this name and kind.';
    };
    readonly ERR_INDEX_UNUSABLE: {
        readonly retryable: false;
        readonly description: 'The index cannot answer: its definition no longer fits its table, or a row that was there before it was opened does not parse.';
    };
    readonly ERR_FILTER_SYNTAX: {
        readonly retryable: false;
        readonly description: 'The filter of a bitmap index is not understood.';
    };
    readonly ERR_INTERNAL: {
        readonly retryable: false;
        readonly description: 'A defect in zqlite; please report it.';
    };
};

/** A code of the catalogue. */
export declare type ErrorCode = keyof typeof errorCatalogue;

/** What is known of a failure beyond its code and message. */
export declare interface ErrorDetails {
    /** For `ERR_CONSTRAINT`: `unique`, `check`, `notnull`, `primarykey`, `foreignkey`, `trigger`, … */
    constraint?: string;
    /** In a batch: the statement that failed, counted from 0. */
    statement?: number;
    /** SQLite's extended result code. */
    sqliteCode?: number;
    /** `'unknown'` when a change may or may not have happened; absent when nothing of it happened. */
    outcome?: 'unknown';
    /** The error behind this one. */
    cause?: unknown;
}

/** What a writing statement did. */
export declare interface ExecuteResult {
    /** Rows inserted, updated or deleted by the statement itself, not by its triggers. */
    changes: number;
    /** The rowid of the last row inserted, 0 when there was none; a bigint beyond ±(2^53-1). */
    lastInsertRowid: number | bigint;
}

/** Whether the database is well. */
export declare interface Health {
    connectivityOk: boolean;
    /** Milliseconds from the question to the answer. */
    connectivityTimeMs: number;
    /** Why it is not. */
    error?: ZqliteError;
    lanes: {
        active: number;
        idle: number;
        waiting: number;
    };
    /** Bytes of the write-ahead log in use. */
    walBytes: number;
}

/** How often values were how large. */
export declare interface Histogram {
    /** Ascending upper bounds of the buckets, themselves included; in seconds where it is of durations. */
    bounds: readonly number[];
    /** Values in each bucket, not cumulative; the last one is above all bounds. */
    counts: readonly number[];
    /** Of all values together. */
    sum: number;
}

/**
 * Starts JSON-line logs of the native part on standard error. The first call of a process counts.
 *
 * @param filter as `RUST_LOG` takes it, such as `info,zqlite_store=debug`
 * @throws {ZqliteError} `ERR_TYPE` when the filter cannot be read
 */
export declare function initLogging(filter: string): void;

/** SQLite's run-time limits, see https://sqlite.org/limits.html. Values above those that it was compiled with change nothing. */
export declare interface Limits {
    /** Bytes of a text, blob or row. */
    length?: number;
    /** Bytes of a statement. */
    sqlLength?: number;
    column?: number;
    exprDepth?: number;
    compoundSelect?: number;
    vdbeOp?: number;
    functionArg?: number;
    attached?: number;
    likePatternLength?: number;
    variableNumber?: number;
    triggerDepth?: number;
}

/** Where a database tells what it does: the part of a pino logger that is used. Parameters of calls are never told. */
export declare interface Logger {
    debug(details: object, message: string): void;
    info(details: object, message: string): void;
    warn(details: object, message: string): void;
    error(details: object, message: string): void;
}

/** All but the gauges grow from opening on. Times are in seconds. */
export declare interface Metrics {
    /** Reading statements that ran. */
    reads: number;
    /** Writing members that ran: single statements and batches. */
    writes: number;
    /** Calls that failed. */
    errors: number;
    /** Commits of the writer, each of one or more members. */
    groups: number;
    /** Members that those commits held; divided by `groups` the mean size of a group. */
    groupedMembers: number;
    /** Members by commit. */
    groupSizes: Histogram;
    /** Members that ran again because a neighbour took their transaction down. */
    reruns: number;
    transactionsStarted: number;
    transactionsCommitted: number;
    /** Callback transactions rolled back by a timer. */
    transactionsTimedOut: number;
    /** Calls that failed, by the code of their error. */
    errorsByCode: Partial<Record<ErrorCode, number>>;
    durations: readonly DurationHistogram[];
    /** Calls for which no lane was free within `connectionTimeout`. */
    poolTimeouts: number;
    /** Calls whose time ran out while they waited, or that were given up then. */
    expired: number;
    /** Calls refused because the queue was full. */
    refused: number;
    waits: readonly WaitHistogram[];
    /** Time that lanes worked, in all. */
    busySeconds: number;
    /** Time spent in COMMIT, in all. */
    commitSeconds: number;
    /** How long each checkpoint took. */
    checkpoints: Histogram;
    /** Gauge: size of the write-ahead log after the last commit. */
    walBytes: number;
    /** Gauge: lanes at work. */
    connectionsActive: number;
    /** Gauge: lanes waiting for work. */
    connectionsIdle: number;
    /** Gauge: calls waiting for a lane. */
    waiting: number;
}

/** Options of {@link migrate}. */
export declare interface MigrateOptions {
    /** Only say what would be done; nothing is changed. Default false. */
    dryRun?: boolean;
    /** Called before and after each step. What it throws ends the migration at that place. */
    onProgress?: (progress: MigrationProgress) => void;
    /** Undoes the step that runs, and ends the migration. Steps that were applied remain. */
    signal?: AbortSignal;
    /** All steps together take at most this long, else `ERR_DEADLINE`, as with the signal. */
    timeout?: Duration;
}

/** One step of the schema. */
export declare interface Migration<Tx extends MigrationTransaction = MigrationTransaction> {
    /** From 1 on, without gaps. */
    version: number;
    name: string;
    /**
     * SQL, any number of statements; or a function, which must change nothing but through the transaction that it is given.
     * What a function does cannot be checked later, since its text differs from build to build: its name is, instead.
     */
    up: string | ((transaction: Tx) => Promise<void>);
}

/** What {@link migrate} needs of a database. */
export declare interface MigrationDatabase<Tx extends MigrationTransaction = MigrationTransaction> {
    query<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row[]>;
    transaction<T>(callback: (transaction: Tx) => Promise<T>, options?: CallOptions): Promise<T>;
}

/** The file and the program do not agree on what has been applied. Nothing was changed. */
export declare class MigrationError extends ZqliteError {
    /**
     * `changed`: the step was applied with another content. `missing`: it was applied, and the program does not have it.
     * `newer`: it was applied by a newer program, and this one would work on a schema that it does not know.
     */
    readonly reason: 'changed' | 'missing' | 'newer';
    /** The step that does not agree. */
    readonly version: number;
    constructor(reason: MigrationError['reason'], version: number, message: string);
}

/** How far {@link migrate} has come. */
export declare interface MigrationProgress extends MigrationStep {
    state: 'running' | 'applied';
    /** Steps that were applied by this call so far. */
    done: number;
    /** Steps that this call has to apply. */
    total: number;
}

/** What {@link migrate} did. */
export declare interface MigrationResult {
    /** The version before, 0 for a new file. */
    from: number;
    /** The version now; with `dryRun`, the version that would be reached. */
    to: number;
    /** The steps that this call applied; with `dryRun`, those that it would apply. */
    steps: MigrationStep[];
}

/** Which step something is about. */
export declare interface MigrationStep {
    version: number;
    name: string;
}

/** What a migration is given to work with: a {@link Transaction}, or whatever else has these two calls. */
export declare interface MigrationTransaction {
    execute(sql: string, params?: Params): Promise<unknown>;
    query<Row = Record<string, unknown>>(sql: string, params?: Params): Promise<Row[]>;
}

/** Stands for "no row" in the answer to a batch: -(2^63). */
export declare const NO_ROW: bigint;

/** The `Content-Type` of {@link openMetricsText}. */
export declare const OPENMETRICS_CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/** By position for `?`, or by name for `:name`, `@name` and `$name` (names without the prefix). */
export declare type Params = readonly Value[] | {
    readonly [name: string]: Value;
};

/** Bounds of lanes and waiting calls. */
export declare interface PoolOptions {
    /** Connections that stay open however long they are idle, 1 to 200; default 10. */
    minConnections?: number;
    /** Connections and waiting slots at most, 5 to 200; default 100. */
    maxConnections?: number;
    /** How long a call waits for a lane; default 30 s. */
    connectionTimeout?: Duration;
    /** An idle connection above the minimum is closed after this long; default 10 min. */
    idleTimeout?: Duration;
    /** A connection is replaced after this long; default 30 min. */
    maxLifetime?: Duration;
    /** How often it is checked that the database can be read, which is logged and counted when it cannot; default 60 s. */
    healthCheckInterval?: Duration;
    /** Calls that may wait; one more fails with `ERR_QUEUE_FULL`. Default 65,536. */
    queueLimit?: number;
}

/** As much of a prom-client `Registry` as is used here. */
export declare interface PromClientRegistry {
    registerMetric(metric: never): void;
    removeSingleMetric(name: string): void;
}

/** The `Content-Type` of {@link prometheusText}. */
export declare const PROMETHEUS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** A step of SQLite's plan for a statement. */
export declare interface QueryPlanStep {
    id: number;
    /** The step that this one is part of; 0 for the outermost. */
    parent: number;
    detail: string;
}

/** A row id as rows of a query have it: a bigint beyond ±(2^53-1). */
export declare type RowId = number | bigint;

/**
 * The rows of a statement, read as they are asked for: about 256 KiB of them are on their way at most. It begins with the
 * first `next()`. To leave the loop early frees the connection.
 */
export declare interface RowStream<Row> extends AsyncIterableIterator<Row, undefined> {
    [Symbol.asyncDispose](): Promise<void>;
}

/** Bytes, or a number with a unit: `'64KB'`, `'512MB'`, `'2GB'` (powers of 1024). */
export declare type Size = number | string;

/** A call that took long. */
export declare interface SlowQuery extends TraceContext {
    /** From the call to its answer, waiting included, in milliseconds. */
    duration: number;
}

/** Options of the hook for slow calls. */
export declare interface SlowQueryOptions {
    /** Calls that take this long or longer are told of. */
    threshold: Duration;
    /**
     * Called after the call was answered, or failed. What it throws is an uncaught exception, and no matter of the call. By
     * default the database's logger is told.
     */
    log?: (call: SlowQuery) => void;
}

/**
 * One SQL text with its calls, from {@link Database.prepare}. Each lane prepares it once and keeps it; text that is given to
 * the database itself is kept just the same, so this saves looking the text up, and typing.
 */
export declare interface Statement<Row = Record<string, unknown>> {
    /** The SQL text. */
    readonly sql: string;
    /** As {@link Database.execute}. */
    execute(params?: Params, options?: CallOptions): Promise<ExecuteResult>;
    /** As {@link Database.executeSync}. */
    executeSync(params?: Params, options?: SyncCallOptions): ExecuteResult;
    /** As {@link Database.query}. */
    query(params?: Params, options?: CallOptions): Promise<Row[]>;
    /** As {@link Database.get}. */
    get(params?: Params, options?: CallOptions): Promise<Row | undefined>;
    /** As {@link Database.values}. */
    values(params?: Params, options?: CallOptions): Promise<unknown[][]>;
    /** As {@link Database.columns}. */
    columns(params?: Params, options?: CallOptions): Promise<Columns>;
    /** As {@link Database.stream}. */
    stream(params?: Params, options?: CallOptions): RowStream<Row>;
    /** As {@link Database.getSync}. */
    getSync(params?: Params): Row | undefined;
    /** As {@link Database.allSync}. */
    allSync(params?: Params): Row[];
}

/** Options of a synchronous call that writes. */
export declare type SyncCallOptions = Pick<CallOptions, 'timeout'>;

/** What is known of a call. Parameters are never among it. */
export declare interface TraceContext {
    /** The call, such as `query` or `executeBatchTransaction`. */
    operation: string;
    sql?: string;
    /** `reader`, `writer` or `sync`, where it is known. */
    lane?: string;
    /** Of a batch: its statements. */
    statements?: number;
    /** What the call returned, once it has; added by Node. */
    result?: unknown;
    /** Why the call failed, once it has; added by Node. */
    error?: unknown;
}

/** The database as the callback of a transaction sees it: its own changes included, nobody else's. */
export declare interface Transaction {
    /** As {@link Database.execute}. */
    execute(sql: string, params?: Params, options?: CallOptions): Promise<ExecuteResult>;
    /** As {@link Database.query}. */
    query<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row[]>;
    /** As {@link Database.get}. */
    get<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row | undefined>;
    /** As {@link Database.values}. */
    values(sql: string, params?: Params, options?: CallOptions): Promise<unknown[][]>;
    /** As {@link Database.columns}. */
    columns(sql: string, params?: Params, options?: CallOptions): Promise<Columns>;
    /** As {@link Database.executeBatchTransaction}: all or nothing within the transaction. */
    executeBatchTransaction(statements: readonly BatchStatement[], options?: CallOptions): Promise<BatchResult[]>;
    /**
     * Runs `callback` in a transaction nested in this one (a savepoint): when its promise rejects, what it did is undone and
     * this one goes on. One at a time, and nothing else of this transaction meanwhile.
     */
    transaction<T>(callback: (transaction: Transaction) => Promise<T>): Promise<T>;
}

/** Bounds of callback transactions, which own the writer lane. */
export declare interface TransactionLimits {
    /** From BEGIN to COMMIT; default 5 s. */
    total?: Duration;
    /** Between two calls; default 1 s. */
    idle?: Duration;
}

/** Options of {@link Database.transaction}. */
export declare interface TransactionOptions {
    /** Gives the transaction up: it is rolled back, and rejects with `ERR_CANCELLED`. */
    signal?: AbortSignal;
    /** Waiting for the writer lane and all of the transaction together take at most this long, else `ERR_DEADLINE`. */
    timeout?: Duration;
    /**
     * When it takes the write lock of the file: at once (`immediate`, the default, and `exclusive`), or with its first write
     * (`deferred`), which makes a difference only to other processes that share the file.
     */
    mode?: 'immediate' | 'deferred' | 'exclusive';
}

/**
 * A value that can be bound. Numbers without a fraction up to ±(2^53-1) become INTEGER, other numbers REAL, bigints
 * INTEGER (64 bits), booleans 1 and 0, dates ISO 8601 text, plain objects and arrays JSON text. A lone surrogate in a
 * string becomes U+FFFD.
 */
export declare type Value = null | number | bigint | string | boolean | Date | Uint8Array | {
    readonly [key: string]: unknown;
} | readonly unknown[];

/** How long calls waited for a lane. */
export declare interface WaitHistogram extends Histogram {
    lane: 'reader' | 'writer' | 'stream';
}

/** Bounds of the write-ahead log. */
export declare interface WalLimits {
    /**
     * Writes wait at three quarters of this until the log can begin anew, so only a commit of more than the last quarter makes it
     * larger, and writes while that is moved, by as much as the limit; at least 4 MB, default 64 MB.
     */
    limit?: Size;
    /** A read older than this that they wait for ends in `ERR_SNAPSHOT_TOO_OLD`; default 30 s. */
    maxReadAge?: Duration;
}

/** A failure of zqlite. */
export declare class ZqliteError extends Error {
    readonly name = "ZqliteError";
    /** Which line of the catalogue. */
    readonly code: ErrorCode;
    /** Whether the same call may succeed later without being changed. */
    readonly retryable: boolean;
    readonly constraint?: string;
    readonly statement?: number;
    readonly sqliteCode?: number;
    readonly outcome?: 'unknown';
    constructor(code: ErrorCode, message: string, details?: ErrorDetails);
}

export { }
