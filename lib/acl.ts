/** Access rules in memory: who may reach whom, and who therefore sees whom. */
import * as native from '../native'
import { number, withChange, withIds, withPeers, withRules } from './acl-given'
import { packRules } from './acl-packed'
import { decide, decideAddresses, decideAddressesBatch, decideBatch, deciders, question } from './acl-questions'
import { exclusive } from './arrays'
import { known, show } from './config'
import { callNative, fromNative, ZqliteError } from './errors'

/** One rule. It matches when it is enabled, not expired, and each of its parts matches. */
export interface AclRule {
  /** Unique among the rules; an integer from 0 to 2^53-1. */
  id: number
  /** Higher decides first; a 32-bit integer. */
  priority: number
  /** At equal priority deny decides first. */
  action: 'allow' | 'deny'
  /** Default: true. */
  enabled?: boolean
  /**
   * Where traffic comes from: any one of these, and at least one. `'*'`, an address or prefix, an address range
   * `'10.0.0.1-10.0.0.9'`, or a label `'tag:web'`, `'group:ops'`, `'user:ann@example.com'`, `'peer:laptop'`.
   */
  sources: readonly string[]
  /** Where traffic goes, as in {@link sources}. */
  destinations: readonly string[]
  /** IANA protocol numbers: 1 ICMP, 6 TCP, 17 UDP. Absent or empty: all. */
  protocols?: readonly number[]
  /** Ranges of destination ports, both ends within. Absent or empty: all. */
  ports?: readonly (readonly [low: number, high: number])[]
  /** Milliseconds since 1970 from which on the rule no longer matches. */
  expiresAt?: number
  /** Match only between peers that have the same owner. Default: false. */
  sameOwner?: boolean
  /**
   * Labels such as `'tag:exit'`: match only what arrives at a peer that bears one of them, as the destination itself or as the
   * router of the address. An address by itself is matched when some peer that routes it bears one. Absent or empty: any.
   * Only for rules that allow.
   */
  through?: readonly string[]
  /**
   * Match only packets of this version of IP. A question about peers is about any of their addresses, and there the rule matches
   * as if it had none: name one only where both sides have an address of it. Absent: both. Only for rules that allow.
   */
  family?: 4 | 6
}

/** One machine of the network. */
export interface AclPeer {
  /** Unique among the peers; an integer from 0 to 2^32-1. */
  id: number
  /** Its own addresses. No two peers share one. */
  addresses: readonly string[]
  /** What rules may select it by. A label for its owner is not implied. */
  labels: readonly string[]
  /** Whose it is; compared only by rules with `sameOwner`. */
  owner?: string
  /** Prefixes of subnets that it forwards to. Peers may share them. */
  routes?: readonly string[]
}

/** A question about two peers. */
export interface AclQuery {
  /** Id of the peer that sends. */
  source: number
  /** Id of the peer that receives. */
  destination: number
  /** IANA protocol number. */
  protocol: number
  /** Destination port; 0 for protocols that have none. */
  port: number
  /** When, in milliseconds since 1970. Default: now. */
  at?: number
}

/** A question about two addresses. */
export interface AclAddressQuery extends Omit<AclQuery, 'source' | 'destination'> {
  /** The address that sends. */
  source: string
  /** The address that receives. */
  destination: string
}

/** An answer. */
export interface AclDecision {
  allowed: boolean
  /** The rule that decided; `null` when none matches, which denies. */
  rule: number | null
}

/** An answer with all that led to it. */
export interface AclExplanation extends AclDecision {
  /** The address behind the receiving peer that the answer is about; `null` when it is about the peer itself. */
  routed: string | null
  /** Every rule that matches, in the order in which they would decide: the first one did. */
  matching: AclMatch[]
}

/** A rule that matches a question. */
export interface AclMatch {
  rule: number
  action: 'allow' | 'deny'
  priority: number
  /** Whether another rule decided before it. */
  shadowed: boolean
}

/** How to ask who sees whom. */
export interface AclVisibility {
  /**
   * Which way some traffic must be allowed: `'to'` the other, `'from'` the other, or `'either'`. Default: `'either'`.
   */
  direction?: 'to' | 'from' | 'either'
  /** When, in milliseconds since 1970. Default: now. */
  at?: number
}

/** Many questions about peers, of one time; the arrays have one length. */
export interface AclBatch {
  /** Ids of the peers that send. */
  sources: Uint32Array
  /** Ids of the peers that receive. */
  destinations: Uint32Array
  /** IANA protocol numbers. */
  protocols: Uint8Array
  /** Destination ports; 0 for protocols that have none. */
  ports: Uint16Array
  /** When, in milliseconds since 1970. Default: now. */
  at?: number
  /**
   * Where the answers are written, for those who ask again and again: arrays of the same length, which share no memory with
   * the others. Default: new ones.
   */
  into?: AclDecisions
}

/**
 * Many questions about addresses. `sources` and `destinations` have one number an address (IPv4, the first octet highest),
 * or four, the highest first (IPv6, where IPv4-mapped ones are IPv4).
 */
export type AclAddressBatch = AclBatch

/** Answers to many questions, in their order. */
export interface AclDecisions {
  /** 1 where allowed, 0 where denied. */
  allowed: Uint8Array
  /** The rules that decided; `NaN` where none matches, which denies. */
  rules: Float64Array
}

/** Changes that are made together: first rules, then peers, and removals first. */
export interface AclChange {
  removeRules?: readonly number[]
  putRules?: readonly AclRule[]
  /** Ids of rules to enable. */
  enable?: readonly number[]
  /** Ids of rules to disable. */
  disable?: readonly number[]
  removePeers?: readonly number[]
  putPeers?: readonly AclPeer[]
}

/** What may come in: from one of the sources to one of the destinations, on one of the protocols and ports. */
export interface AclFilterRule {
  /** Prefixes and ranges, ascending, none of which overlap. */
  sources: string[]
  /** Of the peer's own addresses, or that it routes. */
  destinations: string[]
  /** IANA protocol numbers. Empty: all. */
  protocols: number[]
  /** Ranges of ports, both ends within. Empty: all, and no port at all. */
  ports: [low: number, high: number][]
}

/** A rule that has no effect. */
export interface AclUnusedRule {
  rule: number
  /** `selects-nobody`: one side names nothing but labels that no peer bears; `shadowed`: {@link by} always decides before it. */
  reason: 'disabled' | 'expired' | 'selects-nobody' | 'shadowed'
  by?: number
}

/** An allow and a deny of one priority that can match the same traffic; the deny decides. */
export interface AclConflict {
  deny: number
  allow: number
}

/** Protocols and ports. */
export interface AclPassage {
  /** IANA protocol numbers, ascending. Empty: all. */
  protocols: number[]
  /** Ranges of ports, both ends within, ascending. Empty: all, and no port at all. */
  ports: [low: number, high: number][]
}

/** Peers that fare alike, or addresses behind routers: one of the two is there. */
export interface AclParty {
  /** Ids, ascending. */
  peers?: Uint32Array
  /** A prefix or range that some peer routes; addresses in it that belong to peers are not meant. */
  addresses?: string
}

/** What changes from each source to each destination that is another peer. */
export interface AclDifferenceRow {
  /** Indexes of {@link AclDifference.parties}. */
  sources: number[]
  /** Indexes of {@link AclDifference.parties}. */
  destinations: number[]
  /** What passes that did not. */
  gained: AclPassage[]
  /** What passed and does not. */
  lost: AclPassage[]
}

/** Ordered pairs, sender first. */
export interface AclPairCounts {
  /** Something passes that did not. */
  gaining: number
  /** Something no longer passes. */
  losing: number
  /** Of the gaining ones, those where nothing passed. */
  opened: number
  /** Of the losing ones, those where nothing passes any more. */
  closed: number
}

/** What one engine lets pass and another does not. */
export interface AclDifference {
  /** Between peers. */
  pairs: AclPairCounts
  /** From or to a range of addresses behind a router; each range counts as one. */
  behind: AclPairCounts
  /** Peers that may send or be sent something else, or carry something else for others; ascending. */
  concerned: Uint32Array
  /** What the rows name. */
  parties: AclParty[]
  /** Each pair of parties between which something else passes is in one row. */
  rows: AclDifferenceRow[]
  /** Whether the rows hold everything; they are cut at the limit. Counts and `concerned` are not. */
  complete: boolean
}

/** How an {@link AclEngine} is made. */
export interface AclEngineOptions {
  /**
   * Bytes that the engine may take for its index of rules. Beyond, answers about peers and addresses that come later take
   * longer, in proportion to the rules that select them. Default: 268435456 (256 MiB).
   */
  memory?: number
}

/** The face of an engine of the addon. */
export let ofNative: (engine: native.NativeAclEngine) => AclEngine

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
export class AclEngine {
  #native: native.NativeAclEngine
  // Closed over the engine.
  #decide: () => void
  #decideAddresses: (addresses: string) => void
  #setEnabled: (rule: number, enabled: boolean) => void

  /** @throws {ZqliteError} `ERR_TYPE` */
  constructor(options: AclEngineOptions = {}) {
    known('', options, { memory: true })
    this.#native = callNative(() => new native.NativeAclEngine(options.memory === undefined ? undefined : number('memory', options.memory)))
    ;[this.#decide, this.#decideAddresses] = deciders(this.#native)
    this.#setEnabled = this.#native.toggle()
  }

  static {
    ofNative = (engine) => {
      const made = new AclEngine()
      made.#native = engine
      ;[made.#decide, made.#decideAddresses] = deciders(engine)
      made.#setEnabled = engine.toggle()
      return made
    }
  }

  /** An engine with the same rules and peers, at the cost of microseconds: neither sees later changes of the other. */
  snapshot(): AclEngine {
    return ofNative(this.#native.snapshot())
  }

  /**
   * Replaces all rules.
   *
   * @throws {ZqliteError} `ERR_ACL_RULE` naming the rule and the field; then all rules stay as they were; `ERR_TYPE` for a
   *   field that rules do not have
   */
  setRules(rules: readonly AclRule[]): void {
    withRules(rules, () => {
      const packed = packRules(rules)
      if (packed !== undefined && this.#native.setPackedRules(packed.numbers, packed.texts)) return
      this.#native.setRules(rules as native.NativeAclRule[])
    })
  }

  /**
   * Adds rules, or replaces those with the same ids.
   *
   * @throws {ZqliteError} `ERR_ACL_RULE` naming the rule and the field; then all rules stay as they were; `ERR_TYPE` for a
   *   field that rules do not have
   */
  putRules(rules: readonly AclRule[]): void {
    withRules(rules, () => this.#native.putRules(rules as native.NativeAclRule[]))
  }

  /** Removes rules; ids of none are passed over. */
  removeRules(ids: readonly number[]): void {
    withIds(ids, () => this.#native.removeRules(ids as number[]))
  }

  /** Enables or disables a rule: one bit. */
  setEnabled(rule: number, enabled: boolean): void {
    if (typeof enabled !== 'boolean') throw new ZqliteError('ERR_TYPE', `enabled must be true or false, not ${show(enabled)}`)
    number('rule', rule)
    try {
      this.#setEnabled(rule, enabled)
    } catch (error) {
      throw fromNative(error)
    }
  }

  /**
   * Notes which rules have expired at a time, in milliseconds since 1970, so that later questions need not look. No answer
   * depends on it. Default: now.
   */
  expire(at = Date.now()): void {
    callNative(() => this.#native.expire(number('at', at)))
  }

  /**
   * Adds peers, or replaces those with the same ids. Peers put together may exchange addresses.
   *
   * @throws {ZqliteError} `ERR_ACL_RULE` naming the peer and the field, also when an address would belong to two; then
   *   all peers stay as they were
   */
  putPeers(peers: readonly AclPeer[]): void {
    withPeers(peers, () => this.#native.putPeers(peers as native.NativeAclPeer[]))
  }

  /** Removes peers; ids of none are passed over. */
  removePeers(ids: readonly number[]): void {
    withIds(ids, () => this.#native.removePeers(ids as number[]))
  }

  /** May one peer reach the other, or an address that it routes? */
  decide(query: AclQuery): AclDecision {
    const { source, destination, protocol, port, at = Date.now() } = question(query)
    return decide(this.#decide, source, destination, protocol, port, at)
  }

  /**
   * May one address reach the other? An address of a peer stands for that peer, without its routes.
   *
   * @throws {ZqliteError} `ERR_CIDR_SYNTAX` when a text is no address
   */
  decideAddresses(query: AclAddressQuery): AclDecision {
    const { source, destination, protocol, port, at = Date.now() } = question(query)
    return decideAddresses(this.#decideAddresses, source, destination, protocol, port, at)
  }

  /** As {@link decide}, for each question. */
  decideBatch(batch: AclBatch): AclDecisions {
    return decideBatch(this.#native, batch)
  }

  /** As {@link decideAddresses}, for each question. */
  decideAddressesBatch(batch: AclAddressBatch): AclDecisions {
    return decideAddressesBatch(this.#native, batch)
  }

  /** As {@link decide}, with every rule that matches. */
  explain(query: AclQuery): AclExplanation {
    const { source, destination, protocol, port, at = Date.now() } = question(query)
    return callNative(() => this.#native.explain(source, destination, protocol, port, at)) as AclExplanation
  }

  /**
   * As {@link decideAddresses}, with every rule that matches.
   *
   * @throws {ZqliteError} `ERR_CIDR_SYNTAX` when a text is no address
   */
  explainAddresses(query: AclAddressQuery): AclExplanation {
    const { source, destination, protocol, port, at = Date.now() } = question(query)
    return callNative(() => this.#native.explainAddresses(source, destination, protocol, port, at)) as AclExplanation
  }

  /**
   * Who gains and who loses what when another engine takes the place of this one: exact, for rules and peers alike. Best
   * asked of a {@link snapshot} in which something was changed. Both are compared as they are now, on a thread of its own.
   *
   * @param options.limit parties that all rows together name, about; default: 100000
   */
  async difference(after: AclEngine, options: { at?: number; limit?: number } = {}): Promise<AclDifference> {
    known('', options, { at: true, limit: true })
    const { at = Date.now(), limit = 100_000 } = options
    try {
      return (await this.#native.difference(after.#native, at, limit)) as AclDifference
    } catch (error) {
      throw fromNative(error)
    }
  }

  /**
   * The other peers that a peer sees, by ascending id: those where some protocol and port is allowed, whichever.
   */
  visiblePeers(peer: number, options: AclVisibility = {}): Uint32Array {
    known('', options, { direction: true, at: true })
    const { direction = 'either', at = Date.now() } = options
    return callNative(() => this.#native.visiblePeers(number('peer', peer), way(direction), number('at', at)))
  }

  /**
   * The class of a peer: peers of a class get the same answer to each question at each time, so that what is worked out
   * for one holds for all. Its number stays the same while the rules stay and the class has a peer.
   */
  peerClass(peer: number): number {
    return callNative(() => this.#native.peerClass(number('peer', peer)))
  }

  /** As {@link peerClass}, for each of the peers. */
  peerClasses(peers: Uint32Array): Uint32Array {
    return callNative(() => this.#native.peerClasses(exclusive('peers', peers, 'Uint32Array')))
  }

  /**
   * The classes whose peers a peer of this class sees, by ascending number. The class itself is among them when its peers
   * may see each other, even if there is only one.
   */
  visibleClasses(peerClass: number, options: AclVisibility = {}): Uint32Array {
    known('', options, { direction: true, at: true })
    const { direction = 'either', at = Date.now() } = options
    return callNative(() => this.#native.visibleClasses(number('peerClass', peerClass), way(direction), number('at', at)))
  }

  /**
   * The peers, by ascending id, whose visible peers in either direction or whose packet filter a change would change. The
   * change is not made. A peer that is not there sees nobody.
   *
   * @param at milliseconds since 1970; default: now
   * @throws {ZqliteError} `ERR_ACL_RULE` when the change could not be made
   */
  affected(change: AclChange, at = Date.now()): Uint32Array {
    return withChange(change, () => this.#native.affected(change as native.NativeAclChange, number('at', at)))
  }

  /**
   * What a peer and what it routes may be sent, without denies: they are subtracted. Exactly what
   * {@link decideAddresses} allows.
   *
   * @param at milliseconds since 1970; default: now
   */
  packetFilter(peer: number, at = Date.now()): AclFilterRule[] {
    return callNative(() => this.#native.packetFilter(number('peer', peer), number('at', at))) as AclFilterRule[]
  }

  /**
   * The rules that have no effect, by ascending id. Rules that only several others together shadow are not among them.
   *
   * @param at milliseconds since 1970; default: now
   */
  unusedRules(at = Date.now()): AclUnusedRule[] {
    return callNative(() => this.#native.unusedRules(number('at', at))) as AclUnusedRule[]
  }

  /**
   * Pairs of an allow and a deny of one priority that can match the same traffic, ascending.
   *
   * @param limit how many at most; default: 1000
   */
  conflicts(options: { at?: number; limit?: number } = {}): AclConflict[] {
    known('', options, { at: true, limit: true })
    const { at = Date.now(), limit = 1000 } = options
    return callNative(() => this.#native.conflicts(number('at', at), number('limit', limit)))
  }

  /** Bytes that the index of rules takes. */
  get memory(): number {
    return this.#native.memory()
  }
}

function way(direction: string): string {
  if (typeof direction !== 'string') throw new ZqliteError('ERR_TYPE', `direction must be 'to', 'from' or 'either', not ${show(direction)}`)
  return direction
}
