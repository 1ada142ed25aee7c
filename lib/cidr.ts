/** Prefix tables in memory. */
import * as native from '../native'
import { copyOfTexts, exclusive, kindOf, lengthOf } from './arrays'
import { known, show } from './config'
import { callNative, fromNative, ZqliteError } from './errors'

/** A prefix of a table, in its canonical text, with its value. */
export interface CidrMatch {
  prefix: string
  value: number
}

/** How a {@link CidrTable} is made. */
export interface CidrTableOptions {
  /**
   * `'fast'` spends memory (at least 2 MiB) and time of changes on faster lookups; `'compact'` does so only for large
   * tables and less. Default: `'compact'`.
   */
  mode?: 'compact' | 'fast'
  /** What to do about bits behind a prefix length: `10.0.0.1/8` is an error, or `10.0.0.0/8`. Default: `'reject'`. */
  hostBits?: 'reject' | 'mask'
}

/**
 * Addresses of a batch: IPv4 as numbers, IPv6 as 16 bytes each in network order, or texts of either family. Not in a
 * SharedArrayBuffer, which other threads could change meanwhile.
 */
export type CidrAddresses = Uint32Array | Uint8Array | readonly string[]

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
export class CidrTable {
  readonly #native: native.NativeCidrTable
  /** Made when first needed. */
  #allocate: ReturnType<native.NativeCidrTable['allocator']> | undefined
  readonly #insert: (prefix: string, value: number) => void
  readonly #remove: (prefix: string) => boolean
  readonly #get: (prefix: string) => number

  /**
   * The value of the longest prefix that holds `address`: as {@link lookup}, without naming the prefix, and several times
   * faster. A function of its own, to be called with or without the table before it.
   *
   * @param address a text, or an IPv4 address as a number: an integer from 0 to 2^32-1
   */
  readonly lookupValue: (address: string | number) => number | undefined

  /** @throws {ZqliteError} `ERR_TYPE` for a wrong option */
  constructor(options: CidrTableOptions = {}) {
    known('', options, { mode: true, hostBits: true })
    const fast = oneOf('mode', options.mode, ['compact', 'fast']) === 'fast'
    const mask = oneOf('hostBits', options.hostBits, ['reject', 'mask']) === 'mask'
    this.#native = new native.NativeCidrTable(fast, mask)
    this.#insert = this.#native.inserter()
    this.#remove = this.#native.remover()
    this.#get = this.#native.getter()
    const [byText, byNumber] = [this.#native.textLookup(), this.#native.numberLookup()]
    this.lookupValue = (address) => {
      try {
        const value = typeof address === 'number' ? byNumber(address) : byText(address)
        return value < 0 ? undefined : value
      } catch (error) {
        throw fromNative(error)
      }
    }
  }

  /**
   * Gives `prefix` this value, in place of the one it had.
   *
   * @param value an integer from 0 to 2^32-1
   * @throws {ZqliteError} `ERR_TYPE` for another value
   */
  insert(prefix: string, value: number): void {
    try {
      this.#insert(prefix, value)
    } catch (error) {
      throw fromNative(error)
    }
  }

  /**
   * Gives each prefix the value at its place. Faster than one by one; nothing is changed if one prefix is not valid.
   *
   * @throws {ZqliteError} `ERR_TYPE` unless there are as many values as prefixes, and for values in a SharedArrayBuffer
   */
  insertAll(prefixes: readonly string[], values: Uint32Array): void {
    callNative(() => this.#native.insertAll(copyOfTexts('prefixes', prefixes), exclusive('values', values, 'Uint32Array')))
  }

  /** Gives each of the fewest prefixes that make up a range `first-last` this value. */
  insertRange(range: string, value: number): void {
    callNative(() => this.#native.insertRange(range, value))
  }

  /** Removes `prefix` itself, not those within it; whether it was there. */
  remove(prefix: string): boolean {
    try {
      return this.#remove(prefix)
    } catch (error) {
      throw fromNative(error)
    }
  }

  /** The value of `prefix` itself. */
  get(prefix: string): number | undefined {
    try {
      const value = this.#get(prefix)
      return value < 0 ? undefined : value
    } catch (error) {
      throw fromNative(error)
    }
  }

  /** The longest prefix that holds `address`, as a router would choose. */
  lookup(address: string): CidrMatch | undefined {
    return callNative(() => this.#native.lookup(address)) ?? undefined
  }

  /**
   * The value of the longest prefix of each address, at its place in `out`. All addresses are answered from the table as
   * it is when the call begins. One address of a large batch costs a fraction of what it costs alone.
   *
   * @param out room for as many values, in other memory than `addresses`. In a `Uint32Array` 2^32-1 stands for no match,
   *   in a `Float64Array` -1, which no value can be. Default: a new `Uint32Array`
   * @throws {ZqliteError} `ERR_TYPE` for arrays of other kinds or sizes, in a SharedArrayBuffer, or without their memory
   */
  lookupBatch(addresses: CidrAddresses): Uint32Array
  lookupBatch<Out extends Uint32Array | Float64Array>(addresses: CidrAddresses, out: Out): Out
  lookupBatch(addresses: CidrAddresses, out?: Uint32Array | Float64Array): Uint32Array | Float64Array {
    const { count, v4, v6, texts } = readAddresses(addresses)
    if (out === undefined) out = new Uint32Array(count)
    const isFloat64 = kindOf(out) === 'Float64Array'
    const uint32 = isFloat64 ? undefined : exclusive('out', out as Uint32Array, 'Uint32Array')
    const float64 = isFloat64 ? exclusive('out', out as Float64Array, 'Float64Array') : undefined
    callNative(() => {
      if (v4 !== undefined) this.#native.lookupV4(v4, uint32, float64)
      else if (v6 !== undefined) this.#native.lookupV6(v6, uint32, float64)
      else this.#native.lookupTexts(texts, uint32, float64)
    })
    return out
  }

  /** Each prefix that holds `address`, shortest to longest. */
  matches(address: string): CidrMatch[] {
    return callNative(() => this.#native.matches(address))
  }

  /** Each prefix that covers `prefix`, itself included, shortest to longest. */
  covering(prefix: string): CidrMatch[] {
    return callNative(() => this.#native.covering(prefix))
  }

  /** Each prefix that `prefix` covers, itself included, sorted. */
  covered(prefix: string): CidrMatch[] {
    return callNative(() => this.#native.covered(prefix))
  }

  /** Each prefix that lies in a range `first-last`, sorted. */
  within(range: string): CidrMatch[] {
    return callNative(() => this.#native.within(range))
  }

  /** All of the table, sorted: IPv4 first, a prefix before those that it covers. */
  entries(): CidrMatch[] {
    return callNative(() => this.#native.entries())
  }

  /** The addresses that lie in some prefix, as the fewest ranges `first-last`, sorted. */
  ranges(): string[] {
    return callNative(() => this.#native.ranges())
  }

  /** Whether some address lies in a prefix of this table and in `other`, a prefix or another table. */
  overlaps(other: string | CidrTable): boolean {
    return callNative(() => (other instanceof CidrTable ? this.#native.overlapsTable(other.#native) : this.#native.overlaps(other)))
  }

  /**
   * The first prefix of `length` bits within `pool` that overlaps no longer prefix than the pool, or `undefined` when the
   * pool is full. Prefixes that cover the pool, itself included, do not count as taken.
   *
   * @param length default: that of an address, so that the next free address is found
   */
  nextFree(pool: string, length?: number): string | undefined {
    return callNative(() => this.#native.nextFree(pool, length)) ?? undefined
  }

  /**
   * Gives what {@link nextFree} would find this value, so that it is taken: faster than finding and inserting. An `undefined`
   * answer changed nothing.
   *
   * @param value an integer from 0 to 2^32-1
   */
  allocate(pool: string, value: number, length?: number): string | undefined {
    this.#allocate ??= this.#native.allocator()
    try {
      return this.#allocate(pool, value, length) ?? undefined
    } catch (error) {
      throw fromNative(error)
    }
  }

  /** The table as bytes, for {@link load}. */
  save(): Uint8Array {
    return callNative(() => this.#native.save())
  }

  /**
   * A table as it was saved; options are not. What makes lookups in a large table fast is made by the first of them: some 30 ms
   * for a million prefixes.
   *
   * @throws {ZqliteError} `ERR_CORRUPT` for bytes that no table was saved as, whatever they are; `ERR_TYPE` for bytes in a
   *   SharedArrayBuffer
   */
  static load(bytes: Uint8Array, options: CidrTableOptions = {}): CidrTable {
    const table = new CidrTable(options)
    callNative(() => table.#native.load(exclusive('bytes', bytes, 'Uint8Array')))
    return table
  }

  /** The fewest prefixes that together are a range `first-last`, sorted. */
  static rangeToPrefixes(range: string): string[] {
    return callNative(() => native.cidrRangeToPrefixes(range))
  }

  /** How many prefixes the table holds. */
  get size(): number {
    return this.#native.size()
  }

  /** Bytes of memory that the table takes. */
  get memory(): number {
    return this.#native.memory()
  }
}

function oneOf<T extends string>(name: string, value: T | undefined, allowed: readonly T[]): T | undefined {
  if (value === undefined || allowed.includes(value)) return value
  throw new ZqliteError('ERR_TYPE', `${name} must be ${allowed.map((one) => `'${one}'`).join(' or ')}, not ${typeof value === 'string' ? value : show(value)}`)
}

/** The addresses of a batch as the native part takes them, and how many they are. */
export function readAddresses(addresses: CidrAddresses): { count: number; v4?: Uint32Array; v6?: Uint8Array; texts: string[] } {
  switch (kindOf(addresses)) {
    case 'Uint32Array': {
      const v4 = exclusive('addresses', addresses as Uint32Array, 'Uint32Array')
      return { count: lengthOf(v4), v4, texts: [] }
    }
    case 'Uint8Array': {
      const v6 = exclusive('addresses', addresses as Uint8Array, 'Uint8Array')
      return { count: lengthOf(v6) >>> 4, v6, texts: [] }
    }
    default: {
      if (!Array.isArray(addresses)) throw new ZqliteError('ERR_TYPE', `addresses must be a Uint32Array, a Uint8Array or an array of texts, not ${show(addresses)}`)
      const texts = copyOfTexts('addresses', addresses as readonly string[])
      return { count: texts.length, texts }
    }
  }
}
