/** How questions to an `AclEngine` are asked and answered across the border: one alone, and many in typed arrays. */
import type * as native from '../native'
import type { AclAddressBatch, AclBatch, AclDecision, AclDecisions } from './acl'
import { exclusive, lengthOf } from './arrays'
import { show } from './config'
import { callNative, fromNative, ZqliteError } from './errors'

/**
 * Where a question stands for the native side, and its answer last: see `acl/exchange.rs`. One array serves all engines, as a
 * question is written, asked and its answer read before anything else can run. Nobody else gets hold of it.
 */
const exchange = new Float64Array(5)
const ANSWER = 4

/** Code units of a text that are read. */
const LONGEST = 96

/** The functions that {@link decide} and {@link decideAddresses} ask. Plain functions, as a call costs half of a method's. */
export function deciders(of: Pick<native.NativeAclEngine, 'decider' | 'addressDecider'>): [peers: () => void, addresses: (addresses: string) => void] {
  return [of.decider(exchange), of.addressDecider(exchange)]
}

/** See `AclEngine.decide`. */
export function decide(asked: () => void, source: number, destination: number, protocol: number, port: number, at: number): AclDecision {
  ask(source, destination, service(protocol, port), at)
  try {
    asked()
  } catch (error) {
    throw fromNative(error)
  }
  return decision(exchange[ANSWER] as number)
}

/** See `AclEngine.decideAddresses`. */
export function decideAddresses(asked: (addresses: string) => void, source: string, destination: string, protocol: number, port: number, at: number): AclDecision {
  const from = addressText('source', source)
  const to = addressText('destination', destination)
  ask(from.length, 0, service(protocol, port), at)
  try {
    asked(from + to)
  } catch (error) {
    throw fromNative(error)
  }
  return decision(exchange[ANSWER] as number)
}

/** Writes a question. The array would make numbers of whatever it is given, so nothing else than numbers comes so far. */
function ask(source: number, destination: number, asked: number, at: number): void {
  if (typeof source !== 'number') throw notNumber('source', source)
  if (typeof destination !== 'number') throw notNumber('destination', destination)
  if (typeof at !== 'number') throw notNumber('at', at)
  exchange[0] = source
  exchange[1] = destination
  exchange[2] = asked
  exchange[3] = at
}

function notNumber(name: string, value: unknown): ZqliteError {
  return new ZqliteError('ERR_TYPE', `${name} must be a number, not ${value === null ? 'null' : typeof value}`)
}

/** A text of an address, cut where it is too long for any and the error would not show it: see `call.rs`. */
function addressText(name: string, text: string): string {
  if (typeof text !== 'string') throw new ZqliteError('ERR_TYPE', `${name} must be a string, not ${text === null ? 'null' : typeof text}`)
  return text.length > LONGEST ? text.slice(0, LONGEST) : text
}

/** What is asked, which has no properties where it is nothing. Whatever else is wrong with it, its properties tell. */
export function question<Query>(query: Query): Query {
  if (query === undefined || query === null) throw new ZqliteError('ERR_TYPE', `a question must be an object, not ${show(query)}`)
  return query
}

/** Protocol and port as one number. */
function service(protocol: number, port: number): number {
  if (typeof protocol !== 'number' || (protocol & 0xff) !== protocol) throw new ZqliteError('ERR_TYPE', `protocol must be an integer from 0 to 255, not ${show(protocol)}`)
  if (typeof port !== 'number' || (port & 0xffff) !== port) throw new ZqliteError('ERR_TYPE', `port must be an integer from 0 to 65535, not ${show(port)}`)
  return protocol * 0x10000 + port
}

/** An answer, which comes as one number: the rule's id if it allows, -1 less its id if it denies, `NaN` if none matches. */
function decision(code: number): AclDecision {
  if (code >= 0) return { allowed: true, rule: code }
  return { allowed: false, rule: code < 0 ? -1 - code : null }
}

/** See `AclEngine.decideBatch`. */
export function decideBatch(engine: native.NativeAclEngine, batch: AclBatch): AclDecisions {
  return decideAll(batch, (...questions) => engine.decideBatch(...questions))
}

/** See `AclEngine.decideAddressesBatch`. */
export function decideAddressesBatch(engine: native.NativeAclEngine, batch: AclAddressBatch): AclDecisions {
  return decideAll(batch, (...questions) => engine.decideAddressesBatch(...questions))
}

function decideAll(batch: AclBatch, answer: native.NativeAclEngine['decideBatch']): AclDecisions {
  if (batch === null || typeof batch !== 'object') throw new ZqliteError('ERR_TYPE', `a batch must be an object of arrays, not ${show(batch)}`)
  const { sources, destinations, protocols, ports, at = Date.now(), into = undecided(protocols) } = batch
  if (into === null || typeof into !== 'object') throw new ZqliteError('ERR_TYPE', `into must be an object of two arrays, not ${show(into)}`)
  // Before any array is looked at, as these may be getters.
  const { rules, allowed } = into
  exclusive('sources', sources, 'Uint32Array')
  exclusive('destinations', destinations, 'Uint32Array')
  exclusive('protocols', protocols, 'Uint8Array')
  exclusive('ports', ports, 'Uint16Array')
  exclusive('into.rules', rules, 'Float64Array')
  exclusive('into.allowed', allowed, 'Uint8Array')
  callNative(() => answer(sources, destinations, protocols, ports, at, rules, allowed))
  return into
}

/** Room for an answer to each question. */
function undecided(protocols: Uint8Array): AclDecisions {
  const count = lengthOf(exclusive('protocols', protocols, 'Uint8Array'))
  return { allowed: new Uint8Array(count), rules: new Float64Array(count) }
}
