/** Counters of a database at one moment. */
import * as native from '../native'
import { type ErrorCode, errorCatalogue } from './errors'

/** How long the calls of one operation took, from being made to their answer. */
export interface DurationHistogram {
  operation: 'read' | 'write' | 'transaction' | 'stream' | 'sync'
  /** Upper bounds of the buckets, in seconds. */
  bounds: readonly number[]
  /** Calls in each bucket, not cumulative; the last one is above all bounds. */
  counts: readonly number[]
  /** Of all calls together, in seconds. */
  sum: number
}

/** All but the gauges grow from opening on. Times are in seconds. */
export interface Metrics {
  /** Reading statements that ran. */
  reads: number
  /** Writing members that ran: single statements and batches. */
  writes: number
  /** Calls that failed. */
  errors: number
  /** Commits of the writer, each of one or more members. */
  groups: number
  /** Members that those commits held; divided by `groups` the mean size of a group. */
  groupedMembers: number
  /** Members that ran again because a neighbour took their transaction down. */
  reruns: number
  transactionsStarted: number
  transactionsCommitted: number
  /** Callback transactions rolled back by a timer. */
  transactionsTimedOut: number
  /** Calls that failed, by the code of their error. */
  errorsByCode: Partial<Record<ErrorCode, number>>
  durations: readonly DurationHistogram[]
  /** Calls for which no lane was free within `connectionTimeout`. */
  poolTimeouts: number
  /** Calls whose time ran out while they waited, or that were given up then. */
  expired: number
  /** Calls refused because the queue was full. */
  refused: number
  /** Time that calls waited for a lane, in all. */
  queueWaitSeconds: number
  /** Time that lanes worked, in all. */
  busySeconds: number
  /** Time spent in COMMIT, in all. */
  commitSeconds: number
  checkpoints: number
  checkpointSeconds: number
  /** Gauge: size of the write-ahead log after the last commit. */
  walBytes: number
  /** Gauge: lanes at work. */
  connectionsActive: number
  /** Gauge: lanes waiting for work. */
  connectionsIdle: number
  /** Gauge: calls waiting for a lane. */
  waiting: number
}

let bounds: readonly number[] | undefined

/** The native counters in the units that users see. */
export function toMetrics(n: native.NativeMetrics): Metrics {
  bounds ??= native.durationBounds().map((ns) => ns / 1e9)
  const codes = Object.keys(errorCatalogue) as ErrorCode[]
  const of = bounds
  return {
    errorsByCode: Object.fromEntries(codes.map((code, i) => [code, n.errorsByCode[i] ?? 0]).filter(([, count]) => count !== 0)) as Metrics['errorsByCode'],
    durations: n.durations.map(({ operation, counts, sumNs }) => ({ operation: operation as DurationHistogram['operation'], bounds: of, counts, sum: sumNs / 1e9 })),
    poolTimeouts: n.poolTimeouts,
    reads: n.reads,
    writes: n.writes,
    errors: n.errors,
    groups: n.groups,
    groupedMembers: n.groupedMembers,
    reruns: n.reruns,
    transactionsStarted: n.transactionsStarted,
    transactionsCommitted: n.transactionsCommitted,
    transactionsTimedOut: n.transactionsTimedOut,
    expired: n.expired,
    refused: n.refused,
    queueWaitSeconds: n.queueWaitNs / 1e9,
    busySeconds: n.busyNs / 1e9,
    commitSeconds: n.commitNs / 1e9,
    checkpoints: n.checkpoints,
    checkpointSeconds: n.checkpointNs / 1e9,
    walBytes: n.walBytes,
    connectionsActive: n.active,
    connectionsIdle: n.connections - n.active,
    waiting: n.waiting,
  }
}
