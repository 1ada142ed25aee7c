/**
 * Arrays of callers on their way to the native part, which reads and writes their memory in place. So none may be of memory that
 * another thread could change meanwhile, nor have lost its memory, nor run code of the caller's while it is read.
 */
import { isSharedArrayBuffer } from 'node:util/types'
import { show } from './config'
import { ZqliteError } from './errors'

/** Kinds of typed arrays by their names. */
interface Kinds {
  Uint8Array: Uint8Array
  Uint16Array: Uint16Array
  Uint32Array: Uint32Array
  Float64Array: Float64Array
  BigInt64Array: BigInt64Array
}

/** What arrays of every kind inherit. An array may have properties of its own in place of these. */
const inherited = Object.getPrototypeOf(Uint8Array.prototype) as Uint8Array
const kind = getter(Symbol.toStringTag) as (this: unknown) => string | undefined
const buffer = getter('buffer') as (this: unknown) => ArrayBufferLike
const length = getter('length') as (this: unknown) => number

/** The kind of a typed array, whichever global object it is from, as those of `node:vm` and test runners; of all else `undefined`. */
export function kindOf(value: unknown): string | undefined {
  return kind.call(value)
}

/** How many elements a typed array has. */
export function lengthOf(array: ArrayBufferView): number {
  return length.call(array)
}

/**
 * A typed array of this kind that this thread alone can reach.
 *
 * @throws {ZqliteError} `ERR_TYPE` for anything else, one in a SharedArrayBuffer, and one whose memory was transferred or cut off
 */
export function exclusive<Kind extends keyof Kinds>(name: string, array: Kinds[Kind], wanted: Kind): Kinds[Kind] {
  if (kindOf(array) !== wanted) throw new ZqliteError('ERR_TYPE', `${name} must be a ${wanted}, not ${show(array)}`)
  if (isSharedArrayBuffer(buffer.call(array))) throw new ZqliteError('ERR_TYPE', `${name} must not be in a SharedArrayBuffer, which other threads may change meanwhile`)
  if (isGone(array)) throw new ZqliteError('ERR_TYPE', `${name} has lost its memory: its ArrayBuffer was transferred or made smaller`)
  return array
}

/** Whether a typed array has lost its memory, which then looks empty. */
export function isGone(array: ArrayBufferView): boolean {
  if (lengthOf(array) > 0) return false
  try {
    inherited.keys.call(array as Uint8Array)
    return false
  } catch {
    return true
  }
}

/**
 * A copy of a list of texts: an element of the caller's may be a getter, which could transfer the memory of an array that the
 * native part has been given already.
 *
 * @throws {ZqliteError} `ERR_TYPE` for what is no array, and naming the element that is no string
 */
export function copyOfTexts(name: string, list: readonly string[]): string[] {
  if (!Array.isArray(list)) throw new ZqliteError('ERR_TYPE', `${name} must be an array of texts, not ${show(list)}`)
  const texts = [...list]
  for (let at = 0; at < texts.length; at++) {
    const text: unknown = texts[at]
    if (typeof text !== 'string') throw new ZqliteError('ERR_TYPE', `${name}[${at}] must be a string, not ${show(text)}`)
  }
  return texts
}

function getter(name: string | symbol): unknown {
  return Object.getOwnPropertyDescriptor(inherited, name)?.get
}
