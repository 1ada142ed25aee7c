/** Indexes of the kinds `cidr`, `bitmap` and `acl`, asked at once, on this thread, without SQL. */
import type * as native from '../native'
import { type AclAddressBatch, type AclBatch, type AclDecision, type AclDecisions, type AclEngine, type AclMatch, ofNative } from './acl'
import { decide, decideAddresses, decideAddressesBatch, decideBatch, deciders, question as asked } from './acl-questions'
import { exclusive, lengthOf } from './arrays'
import { type CidrAddresses, readAddresses } from './cidr'
import { show } from './config'
import { callNative, ZqliteError } from './errors'

/** A row id as rows of a query have it: a bigint beyond ±(2^53-1). */
export type RowId = number | bigint

/** Stands for "no row" in the answer to a batch: -(2^63). */
export const NO_ROW: bigint = -(2n ** 63n)

/** The longest prefix that holds an address. */
export interface CidrHit {
  /** In its canonical text. */
  prefix: string
  /** The rows that have this prefix, in order. */
  rows: RowId[]
}

/** A row whose prefix holds an address. */
export interface CidrRow {
  /** In its canonical text. */
  prefix: string
  row: RowId
}

/**
 * The rows of a table by the prefix in one of its columns: `CREATE INDEX name ON table USING cidr(column)`. Every call is
 * about what is committed when it is made, and never waits.
 *
 * Calls throw a {@link ZqliteError}: `ERR_CIDR_SYNTAX` for what is no address, `ERR_INDEX_UNKNOWN` when the index was
 * dropped, `ERR_INDEX_UNUSABLE` when it cannot answer, `ERR_CLOSED`.
 */
export interface CidrIndex {
  /** The longest prefix that holds `address`, with its rows. */
  lookup(address: string): CidrHit | undefined
  /** Each row whose prefix holds `address`, shortest prefix first. */
  matches(address: string): CidrRow[]
  /**
   * For each address the first row of the longest prefix that holds it, or {@link NO_ROW}; all of one moment.
   *
   * @param out an array for the answer, with room for it; default: a new one
   * @throws {ZqliteError} `ERR_TYPE` for arrays of other kinds or sizes, in a SharedArrayBuffer, or without their memory
   */
  lookupBatch(addresses: CidrAddresses, out?: BigInt64Array): BigInt64Array
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
export interface BitmapIndex {
  /** The ids of the rows of which `filter` is true, ascending. */
  rows(filter: string): BigInt64Array
  /** How many they are. */
  count(filter: string): number
}

/** A question: may `source` reach `destination`? Both are ids of peers, or both addresses. */
export interface AclIndexQuery {
  source: number | string
  destination: number | string
  /** IANA protocol number. */
  protocol: number
  /** Destination port; 0 for protocols that have none. */
  port: number
  /** When, in milliseconds since 1970. Default: now. */
  at?: number
}

/** An answer with every rule that matches, in the order in which they would decide: the first one did. */
export interface AclReasons extends AclDecision {
  matching: AclMatch[]
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
export interface AclIndex {
  /** May one reach the other? */
  decide(query: AclIndexQuery): AclDecision
  /** As {@link decide} by ids of peers, for each question; all of one moment. */
  decideBatch(batch: AclBatch): AclDecisions
  /** As {@link decide} by addresses, for each question; all of one moment. */
  decideAddressesBatch(batch: AclAddressBatch): AclDecisions
  /** As {@link decide}, with every rule that matches. */
  explain(query: AclIndexQuery): AclReasons
  /**
   * An engine with the rules and peers that are committed now, for whatever else can be asked of them: who sees whom, whom a
   * change would concern, packet filters. It costs microseconds, neither sees later changes of the other.
   */
  snapshot(): AclEngine
}

export class NativeCidr implements CidrIndex {
  readonly #native: native.NativeCidrIndex
  readonly #lookup: (address: string) => native.NativeCidrHit | null

  constructor(index: native.NativeCidrIndex) {
    this.#native = index
    this.#lookup = index.lookup()
  }

  lookup(address: string): CidrHit | undefined {
    const found = callNative(() => this.#lookup(text('address', address)))
    return found == null ? undefined : { prefix: found.prefix, rows: Array.from(found.rows, rowId) }
  }

  matches(address: string): CidrRow[] {
    const { prefixes, rows } = callNative(() => this.#native.matches(text('address', address)))
    return prefixes.map((prefix, i) => ({ prefix, row: rowId(rows[i] ?? NO_ROW) }))
  }

  lookupBatch(addresses: CidrAddresses, out?: BigInt64Array): BigInt64Array {
    const { v4, v6, texts } = readAddresses(addresses)
    if (out !== undefined) exclusive('out', out, 'BigInt64Array')
    const rows = callNative(() => {
      if (v4 !== undefined) return this.#native.lookupV4(v4)
      return v6 === undefined ? this.#native.lookupTexts(texts) : this.#native.lookupV6(v6)
    })
    if (out === undefined) return rows
    const room = lengthOf(out)
    if (room < rows.length) throw new ZqliteError('ERR_TYPE', `out has room for ${room} rows, ${rows.length} are needed`)
    out.set(rows)
    return out
  }
}

export class NativeBitmap implements BitmapIndex {
  readonly #native: native.NativeBitmapIndex

  constructor(index: native.NativeBitmapIndex) {
    this.#native = index
  }

  rows(filter: string): BigInt64Array {
    return callNative(() => this.#native.rows(text('filter', filter)))
  }

  count(filter: string): number {
    return callNative(() => this.#native.count(text('filter', filter)))
  }
}

export class NativeAcl implements AclIndex {
  readonly #native: native.NativeAclIndex
  readonly #decide: () => void
  readonly #decideAddresses: (addresses: string) => void

  constructor(index: native.NativeAclIndex) {
    this.#native = index
    ;[this.#decide, this.#decideAddresses] = deciders(index)
  }

  decide(query: AclIndexQuery): AclDecision {
    const { source, destination, protocol, port, at = Date.now() } = asked(query)
    if (typeof source === 'number' && typeof destination === 'number') return decide(this.#decide, source, destination, protocol, port, at)
    if (typeof source === 'string' && typeof destination === 'string') return decideAddresses(this.#decideAddresses, source, destination, protocol, port, at)
    throw new ZqliteError('ERR_TYPE', `source and destination must both be numbers of peers, or both be texts of addresses, not ${show(source)} and ${show(destination)}`)
  }

  decideBatch(batch: AclBatch): AclDecisions {
    return decideBatch(callNative(() => this.#native.snapshot()), batch)
  }

  decideAddressesBatch(batch: AclAddressBatch): AclDecisions {
    return decideAddressesBatch(callNative(() => this.#native.snapshot()), batch)
  }

  snapshot(): AclEngine {
    return ofNative(callNative(() => this.#native.snapshot()))
  }

  explain(query: AclIndexQuery): AclReasons {
    const { allowed, rule, matching } = callNative(() => this.#native.explain(question(asked(query))))
    return { allowed, rule: rule ?? null, matching: matching as AclMatch[] }
  }
}

function question({ source, destination, protocol, port, at = Date.now() }: AclIndexQuery): native.NativeAclQuestion {
  for (const [name, end] of [['source', source], ['destination', destination]] as const) {
    if (typeof end !== 'number' && typeof end !== 'string') throw new ZqliteError('ERR_TYPE', `${name} must be a number or a string, not ${show(end)}`)
  }
  for (const [name, value] of [['protocol', protocol], ['port', port], ['at', at]] as const) {
    if (typeof value !== 'number') throw new ZqliteError('ERR_TYPE', `${name} must be a number, not ${show(value)}`)
  }
  return { source, destination, protocol, port, at }
}

function rowId(row: bigint): RowId {
  return row >= Number.MIN_SAFE_INTEGER && row <= Number.MAX_SAFE_INTEGER ? Number(row) : row
}

function text(what: string, value: unknown): string {
  if (typeof value !== 'string') throw new ZqliteError('ERR_TYPE', `${what} must be a string, not ${show(value)}`)
  return value
}
