/** Access rules in memory: who may reach whom, and who therefore sees whom. */
import * as native from '../native'
import { callNative } from './errors'

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
 * A method that is given the id of a peer or class that does not exist throws a {@link ZqliteError} `ERR_ACL_UNKNOWN`,
 * and `ERR_TYPE` for an argument of a wrong type or range.
 */
export class AclEngine {
  readonly #native = new native.NativeAclEngine()

  /**
   * Replaces all rules.
   *
   * @throws {ZqliteError} `ERR_ACL_RULE` naming the rule and the field; then all rules stay as they were
   */
  setRules(rules: readonly AclRule[]): void {
    callNative(() => this.#native.setRules(rules as native.NativeAclRule[]))
  }

  /**
   * Adds peers, or replaces those with the same ids. Peers put together may exchange addresses.
   *
   * @throws {ZqliteError} `ERR_ACL_RULE` naming the peer and the field, also when an address would belong to two; then
   *   all peers stay as they were
   */
  putPeers(peers: readonly AclPeer[]): void {
    callNative(() => this.#native.putPeers(peers as native.NativeAclPeer[]))
  }

  /** Removes peers; ids of none are passed over. */
  removePeers(ids: readonly number[]): void {
    callNative(() => this.#native.removePeers(ids as number[]))
  }

  /** May one peer reach the other, or an address that it routes? */
  decide(query: AclQuery): AclDecision {
    const { source, destination, protocol, port, at = Date.now() } = query
    return callNative(() => this.#native.decide(source, destination, protocol, port, at))
  }

  /**
   * May one address reach the other? An address of a peer stands for that peer, without its routes.
   *
   * @throws {ZqliteError} `ERR_CIDR_SYNTAX` when a text is no address
   */
  decideAddresses(query: AclAddressQuery): AclDecision {
    const { source, destination, protocol, port, at = Date.now() } = query
    return callNative(() => this.#native.decideAddresses(source, destination, protocol, port, at))
  }

  /** As {@link decide}, with every rule that matches. */
  explain(query: AclQuery): AclExplanation {
    const { source, destination, protocol, port, at = Date.now() } = query
    return callNative(() => this.#native.explain(source, destination, protocol, port, at)) as AclExplanation
  }

  /**
   * The other peers that a peer sees, by ascending id: those where some protocol and port is allowed, whichever.
   */
  visiblePeers(peer: number, options: AclVisibility = {}): Uint32Array {
    const { direction = 'either', at = Date.now() } = options
    return callNative(() => this.#native.visiblePeers(peer, direction, at))
  }

  /**
   * The class of a peer: peers of a class get the same answer to each question at each time, so that what is worked out
   * for one holds for all. Its number stays the same while the rules stay and the class has a peer.
   */
  peerClass(peer: number): number {
    return callNative(() => this.#native.peerClass(peer))
  }

  /**
   * The classes whose peers a peer of this class sees, by ascending number. The class itself is among them when its peers
   * may see each other, even if there is only one.
   */
  visibleClasses(peerClass: number, options: AclVisibility = {}): Uint32Array {
    const { direction = 'either', at = Date.now() } = options
    return callNative(() => this.#native.visibleClasses(peerClass, direction, at))
  }
}
