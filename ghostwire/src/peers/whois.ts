// Who has an address: a peer, nobody, or those behind a router.

import { formatAddress } from '../addresses/ranges.js';
import { parseAddress, unmapped } from '../addresses/ip.js';
import type { AddressPools, Standing } from '../addresses/pools.js';
import { GhostwireError } from '../errors.js';
import type { Topology } from '../topology/topology.js';
import type { Directory } from './directory.js';
import type { Peer } from './peer.js';

/** A subnet that holds the address. */
export interface Route {
  readonly prefix: string;
  /** The router that the others send to. */
  readonly primary: Peer;
  /** All that are approved for it. */
  readonly routers: readonly Peer[];
}

export interface WhoHas {
  readonly address: string;
  readonly state: Standing['state'];
  /** That holds the address, as one of its own. */
  readonly peer: Peer | undefined;
  /** Id of the pre-auth key for whose peer it is kept. */
  readonly preauthKey: string | undefined;
  /** Milliseconds since 1970: until when it rests. */
  readonly until: number | undefined;
  /** The configured pool that it is of. */
  readonly pool: string | undefined;
  /** The longest prefix first. */
  readonly routes: readonly Route[];
}

export class Whois {
  readonly #addresses: AddressPools;
  readonly #directory: Directory;
  readonly #topology: Topology;

  constructor(addresses: AddressPools, directory: Directory, topology: Topology) {
    this.#addresses = addresses;
    this.#directory = directory;
    this.#topology = topology;
  }

  /** @throws GhostwireError ERR_VALIDATION for what is no address */
  look(text: string): WhoHas {
    // As servers that speak both families log their callers.
    const parsed = parseAddress(unmapped(text) ?? text);
    if (parsed === undefined)
      throw new GhostwireError('ERR_VALIDATION', `address: ${JSON.stringify(text)} is not an IPv4 or IPv6 address`, { path: 'address' });
    const address = formatAddress(parsed);
    const standing = this.#addresses.look(address);
    const { ipv4 } = standing;
    const peer = standing.state === 'held' && standing.handle !== undefined ? this.#directory.atHandle(standing.handle) : undefined;
    // An IPv6 address goes with an IPv4 one; a peer of an earlier configuration has another than would be thought.
    const other = peer !== undefined && parsed.family === 6 && peer.record.ipv6 !== address;
    return {
      address,
      state: other ? 'free' : standing.state,
      peer: other ? undefined : peer,
      preauthKey: standing.state === 'kept' ? standing.preauthKey : undefined,
      until: standing.state === 'resting' ? standing.until : undefined,
      pool: ipv4 === undefined ? undefined : this.#addresses.poolOf(ipv4),
      routes: this.#topology.carrying(address).flatMap(({ prefix, primary, routers }) => {
        const first = this.#directory.atHandle(primary);
        const all = routers.map((handle) => this.#directory.atHandle(handle)).filter((one) => one !== undefined);
        return first === undefined ? [] : [{ prefix, primary: first, routers: all }];
      }),
    };
  }
}
