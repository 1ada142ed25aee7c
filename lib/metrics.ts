/** Counters of a database at one moment. */
import type * as native from '../native'
import { type ErrorCode, errorCatalogue } from './errors'

/** How often values were how large. */
export interface Histogram {
  /** Ascending upper bounds of the buckets, themselves included; in seconds where it is of durations. */
  bounds: readonly number[]
  /** Values in each bucket, not cumulative; the last one is above all bounds. */
  counts: readonly number[]
  /** Of all values together. */
  sum: number
}

/** How long the calls of one operation took, from being made to their answer. */
export interface DurationHistogram extends Histogram {
  operation: 'read' | 'write' | 'transaction' | 'stream' | 'sync'
  lane: 'reader' | 'writer' | 'stream' | 'sync'
}

/** How long calls waited for a lane. */
export interface WaitHistogram extends Histogram {
  lane: 'reader' | 'writer' | 'stream'
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
  /** Members by commit. */
  groupSizes: Histogram
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
  waits: readonly WaitHistogram[]
  /** Time that lanes worked, in all. */
  busySeconds: number
  /** Time spent in COMMIT, in all. */
  commitSeconds: number
  /** How long each checkpoint took. */
  checkpoints: Histogram
  /** Gauge: size of the write-ahead log after the last commit. */
  walBytes: number
  /** Gauge: lanes at work. */
  connectionsActive: number
  /** Gauge: lanes waiting for work. */
  connectionsIdle: number
  /** Gauge: calls waiting for a lane. */
  waiting: number
}

/** The lanes on which the operations run. */
const laneOf: Record<DurationHistogram['operation'], DurationHistogram['lane']> = { read: 'reader', write: 'writer', transaction: 'writer', stream: 'stream', sync: 'sync' }

/** The native counters in the units that users see. */
export function toMetrics(n: native.NativeMetrics): Metrics {
  const codes = Object.keys(errorCatalogue) as ErrorCode[]
  return {
    errorsByCode: Object.fromEntries(codes.map((code, i) => [code, n.errorsByCode[i] ?? 0]).filter(([, count]) => count !== 0)) as Metrics['errorsByCode'],
    durations: n.durations.map((histogram) => {
      const operation = histogram.of as DurationHistogram['operation']
      return { operation, lane: laneOf[operation], ...inSeconds(histogram) }
    }),
    waits: n.waits.map((histogram) => ({ lane: histogram.of as WaitHistogram['lane'], ...inSeconds(histogram) })),
    groups: n.groupSizes.counts.reduce((a, b) => a + b, 0),
    groupedMembers: n.groupSizes.sum,
    groupSizes: { bounds: n.groupSizes.bounds, counts: n.groupSizes.counts, sum: n.groupSizes.sum },
    checkpoints: inSeconds(n.checkpoints),
    poolTimeouts: n.poolTimeouts,
    reads: n.reads,
    writes: n.writes,
    errors: n.errors,
    reruns: n.reruns,
    transactionsStarted: n.transactionsStarted,
    transactionsCommitted: n.transactionsCommitted,
    transactionsTimedOut: n.transactionsTimedOut,
    expired: n.expired,
    refused: n.refused,
    busySeconds: n.busyNs / 1e9,
    commitSeconds: n.commitNs / 1e9,
    walBytes: n.walBytes,
    connectionsActive: n.active,
    connectionsIdle: n.connections - n.active,
    waiting: n.waiting,
  }
}

function inSeconds({ bounds, counts, sum }: native.NativeHistogram): Histogram {
  return { bounds: bounds.map((ns) => ns / 1e9), counts, sum: sum / 1e9 }
}
