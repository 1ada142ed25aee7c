/** Prefix tables in memory. */
import * as native from '../native'
import { callNative } from './errors'

/** A prefix of a table, in its canonical text, with its value. */
export interface CidrMatch {
  prefix: string
  value: number
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
 * address or prefix, and `ERR_TYPE` when it is no string.
 */
export class CidrTable {
  readonly #native = new native.NativeCidrTable()

  /**
   * Gives `prefix` this value, in place of the one it had.
   *
   * @param value an integer from 0 to 2^32-1
   * @throws {ZqliteError} `ERR_TYPE` for another value
   */
  insert(prefix: string, value: number): void {
    callNative(() => this.#native.insert(prefix, value))
  }

  /** Removes `prefix` itself, not those within it; whether it was there. */
  remove(prefix: string): boolean {
    return callNative(() => this.#native.remove(prefix))
  }

  /** The value of `prefix` itself. */
  get(prefix: string): number | undefined {
    return callNative(() => this.#native.get(prefix)) ?? undefined
  }

  /** The longest prefix that holds `address`, as a router would choose. */
  lookup(address: string): CidrMatch | undefined {
    return callNative(() => this.#native.lookup(address)) ?? undefined
  }

  /** Each prefix that holds `address`, shortest to longest. */
  matches(address: string): CidrMatch[] {
    return callNative(() => this.#native.matches(address))
  }

  /** How many prefixes the table holds. */
  get size(): number {
    return this.#native.size()
  }
}
