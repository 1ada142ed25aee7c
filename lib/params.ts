/** Values on their way to a statement, packed as `crates/zqlite-store/src/params.rs` describes. */
import { isDate } from 'node:util/types'
import { isGone, kindOf, lengthOf } from './arrays'
import { show } from './config'
import { ZqliteError } from './errors'

/**
 * A value that can be bound. Numbers without a fraction up to ±(2^53-1) become INTEGER, other numbers REAL, bigints
 * INTEGER (64 bits), booleans 1 and 0, dates ISO 8601 text, plain objects and arrays JSON text. A lone surrogate in a
 * string becomes U+FFFD.
 */
export type Value = null | number | bigint | string | boolean | Date | Uint8Array | { readonly [key: string]: unknown } | readonly unknown[]

/** By position for `?`, or by name for `:name`, `@name` and `$name` (names without the prefix). */
export type Params = readonly Value[] | { readonly [name: string]: Value }

const NULL = 0
const INT32 = 1
const DOUBLE = 2
const INT64 = 3
const TEXT = 4
const BLOB = 5

/** A text this short is copied character by character, which beats a call into the engine's encoder. */
const SHORT_TEXT = 32
const MAX_BYTES = 2 ** 30

/** A buffer that grows; everything little-endian. */
export class Writer {
  #bytes = Buffer.allocUnsafeSlow(16 << 10)
  /** Bytes written. */
  at = 0

  /** What was written; valid until the next write. */
  get written(): Buffer {
    return this.#bytes.subarray(0, this.at)
  }

  /** What is written to; another one when it has grown. */
  get bytes(): Buffer {
    return this.#bytes
  }

  u8(value: number): void {
    this.#room(1)
    this.#bytes[this.at++] = value
  }

  u32(value: number): void {
    this.#room(4)
    this.#bytes.writeUInt32LE(value, this.at)
    this.at += 4
  }

  /** Leaves room for a u32 that {@link patch} fills in. */
  hole(): number {
    this.#room(4)
    this.at += 4
    return this.at - 4
  }

  patch(hole: number, value: number): void {
    this.#bytes.writeUInt32LE(value, hole)
  }

  /** Starts over; gives the memory of an exceptional request back. */
  reset(): void {
    this.at = 0
    if (this.#bytes.length > 1 << 20) this.#bytes = Buffer.allocUnsafeSlow(16 << 10)
  }

  name(name: string): void {
    const length = Buffer.byteLength(name)
    if (length > 0xffff) throw new ZqliteError('ERR_PARAMETERS', `a parameter's name is ${length} bytes long`)
    this.#room(2 + length)
    this.#bytes.writeUInt16LE(length, this.at)
    this.at += 2 + this.#bytes.write(name, this.at + 2)
  }

  value(value: unknown, where: string | number): void {
    switch (typeof value) {
      case 'number':
        return this.#number(value)
      case 'string':
        return this.#text(value)
      case 'boolean':
        return this.#number(value ? 1 : 0)
      case 'bigint':
        return this.#bigint(value, where)
      case 'object':
        if (value === null) return this.u8(NULL)
        if (kindOf(value) === 'Uint8Array') return this.#blob(value as Uint8Array, where)
        if (isDate(value)) return this.#date(value, where)
        if (Array.isArray(value) || isPlain(value)) return this.#json(value, where)
        break
      default:
    }
    throw new ZqliteError('ERR_PARAMETERS', `parameter ${where} is ${kind(value)}, which cannot be bound`)
  }

  #number(value: number): void {
    this.#room(9)
    if ((value | 0) === value && !Object.is(value, -0)) {
      this.#bytes[this.at] = INT32
      this.#bytes.writeInt32LE(value, this.at + 1)
      this.at += 5
    } else if (Number.isSafeInteger(value) && value !== 0) {
      this.#bytes[this.at] = INT64
      this.#bytes.writeInt32LE(value | 0, this.at + 1)
      this.#bytes.writeInt32LE(Math.floor(value / 2 ** 32), this.at + 5)
      this.at += 9
    } else {
      this.#bytes[this.at] = DOUBLE
      this.#bytes.writeDoubleLE(value, this.at + 1)
      this.at += 9
    }
  }

  #bigint(value: bigint, where: string | number): void {
    if (BigInt.asIntN(64, value) !== value) throw new ZqliteError('ERR_PARAMETERS', `parameter ${where} is a bigint that does not fit 64 bits`)
    this.#room(9)
    this.#bytes[this.at] = INT64
    this.#bytes.writeBigInt64LE(value, this.at + 1)
    this.at += 9
  }

  #text(value: string): void {
    // A UTF-16 unit takes at most three bytes of UTF-8.
    this.#room(5 + 3 * value.length)
    const bytes = this.#bytes
    const start = this.at + 5
    let length = 0
    if (value.length <= SHORT_TEXT) {
      while (length < value.length) {
        const unit = value.charCodeAt(length)
        if (unit > 0x7f) break
        bytes[start + length++] = unit
      }
    }
    if (length < value.length) length = bytes.write(value, start)
    bytes[this.at] = TEXT
    bytes.writeUInt32LE(length, this.at + 1)
    this.at = start + length
  }

  #blob(value: Uint8Array, where: string | number): void {
    if (isGone(value)) throw new ZqliteError('ERR_PARAMETERS', `parameter ${where} is a Uint8Array that has lost its memory: its ArrayBuffer was transferred or made smaller`)
    // Not what a subclass says: as much is copied as there is.
    const length = lengthOf(value)
    this.#room(5 + length)
    this.#bytes[this.at] = BLOB
    this.#bytes.writeUInt32LE(length, this.at + 1)
    this.#bytes.set(value, this.at + 5)
    this.at += 5 + length
  }

  #date(value: Date, where: string | number): void {
    if (Number.isNaN(value.getTime())) throw new ZqliteError('ERR_PARAMETERS', `parameter ${where} is an invalid date`)
    this.#text(value.toISOString())
  }

  #json(value: object, where: string | number): void {
    let text: string | undefined
    let cause: unknown
    try {
      text = JSON.stringify(value)
    } catch (error) {
      cause = error
    }
    // A toJSON() may return undefined, which no JSON text stands for.
    if (text === undefined) throw new ZqliteError('ERR_PARAMETERS', `parameter ${where} cannot be written as JSON`, { cause })
    this.#text(text)
  }

  #room(bytes: number): void {
    const needed = this.at + bytes
    if (needed <= this.#bytes.length) return
    if (needed > MAX_BYTES) throw new ZqliteError('ERR_TOO_LARGE', 'the parameters of calls made together are larger than 1 GiB')
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#bytes.length))
    this.#bytes.copy(larger, 0, 0, this.at)
    this.#bytes = larger
  }
}

/** Writes count, length and values of the parameters of one call. */
export function writeParams(writer: Writer, params: Params | undefined): void {
  const count = writer.hole()
  const length = writer.hole()
  const start = writer.at
  if (params === undefined) {
    writer.patch(count, 0)
  } else if (Array.isArray(params)) {
    // A toJSON() may have made it longer or shorter.
    let i = 0
    for (; i < params.length; i++) writer.value(params[i], i + 1)
    writer.patch(count, i)
  } else if (typeof params === 'object' && params !== null && isPlain(params)) {
    const names = Object.keys(params)
    writer.patch(count, (names.length | NAMED) >>> 0)
    for (const name of names) {
      writer.name(name)
      writer.value((params as Record<string, unknown>)[name], `:${name}`)
    }
  } else {
    throw new ZqliteError('ERR_PARAMETERS', `parameters must be an array or a plain object, not ${show(params)}`)
  }
  writer.patch(length, writer.at - start)
}

const NAMED = 1 << 31

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

function kind(value: unknown): string {
  if (typeof value !== 'object' || value === null) return value === undefined ? 'undefined' : `a ${typeof value}`
  const { constructor } = value as { constructor?: unknown }
  return `an instance of ${typeof constructor === 'function' && constructor.name !== '' ? constructor.name : 'a nameless class'}`
}
