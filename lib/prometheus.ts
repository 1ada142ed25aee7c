/**
 * The counters of a database as monitoring systems read them: the Prometheus text format 0.0.4, OpenMetrics 1.0, and
 * collectors for a registry of prom-client. The catalogue below says what there is.
 */
import { show } from './config'
import { type ErrorCode, errorCatalogue, ZqliteError } from './errors'
import type { Metrics } from './metrics'

interface Family {
  type: 'counter' | 'gauge' | 'histogram'
  /** The unit, with which the name ends before any `_total`; OpenMetrics wants to be told. */
  unit?: 'seconds' | 'bytes'
  help: string
}

const families = {
  zqlite_query_duration_seconds: { type: 'histogram', unit: 'seconds', help: 'Time from a call to its answer, waiting included.' },
  zqlite_queries_total: { type: 'counter', help: 'Calls that succeeded.' },
  zqlite_query_errors_total: { type: 'counter', help: 'Calls that failed.' },
  zqlite_queue_wait_seconds: { type: 'histogram', unit: 'seconds', help: 'Time that calls waited for a lane.' },
  zqlite_calls_waiting: { type: 'gauge', help: 'Calls waiting for a lane.' },
  zqlite_calls_expired_total: { type: 'counter', help: 'Calls whose time ran out while they waited, or that were given up then.' },
  zqlite_calls_refused_total: { type: 'counter', help: 'Calls refused because the queue was full.' },
  zqlite_busy_seconds_total: { type: 'counter', unit: 'seconds', help: 'Time that lanes worked, all together.' },
  zqlite_commit_seconds_total: { type: 'counter', unit: 'seconds', help: 'Time spent in COMMIT.' },
  zqlite_pool_timeouts_total: { type: 'counter', help: 'Calls that found no free lane within connectionTimeout.' },
  zqlite_connections_active: { type: 'gauge', help: 'Lanes at work.' },
  zqlite_connections_idle: { type: 'gauge', help: 'Lanes waiting for work.' },
  zqlite_transactions_started_total: { type: 'counter', help: 'Callback transactions that began.' },
  zqlite_transactions_committed_total: { type: 'counter', help: 'Callback transactions that were committed.' },
  zqlite_transactions_timed_out_total: { type: 'counter', help: 'Callback transactions rolled back by a timer.' },
  zqlite_group_size: { type: 'histogram', help: 'Writes that shared one commit.' },
  zqlite_group_reruns_total: { type: 'counter', help: 'Writes that ran again because a neighbour took their transaction down.' },
  zqlite_wal_bytes: { type: 'gauge', unit: 'bytes', help: 'Size of the write-ahead log after the last commit.' },
  zqlite_checkpoint_duration_seconds: { type: 'histogram', unit: 'seconds', help: 'Time that a checkpoint took.' },
  zqlite_post_quantum_operations_total: { type: 'counter', help: 'Post-quantum key operations.' },
} as const satisfies Record<string, Family>

type Families = typeof families
type NamesOf<Type extends Family['type']> = { [Name in keyof Families]: Families[Name]['type'] extends Type ? Name : never }[keyof Families]

/** The metrics that only grow. */
export type CounterName = NamesOf<'counter'>
/** The metrics that rise and fall. */
export type GaugeName = NamesOf<'gauge'>
/** The metrics that count how often a value was how large. */
export type HistogramName = NamesOf<'histogram'>

/** What a series is told apart by. SQL is never among it: it has no end of values, and holds secrets. */
export interface MetricLabels {
  /** The kind of call, such as `read`. */
  operation?: string
  /** The kind of lane, such as `reader`. */
  lane?: string
  /** A code of the error catalogue. */
  code?: string
}

/** A number of one series. */
export interface Sample<Name extends string> {
  name: Name
  labels?: MetricLabels
  value: number
}

/** How often the values of one series were how large. */
export interface HistogramSample {
  name: HistogramName
  labels?: MetricLabels
  /** Ascending upper limits, themselves included; times in seconds. */
  bounds: ArrayLike<number>
  /** How many values fell to each bound and not to the one before it, and at the end how many lay above the last one. */
  counts: ArrayLike<number>
  /** All values added up. */
  sum: number
}

/** All series at one moment. */
export interface MetricsSnapshot {
  counters: readonly Sample<CounterName>[]
  gauges: readonly Sample<GaugeName>[]
  histograms: readonly HistogramSample[]
}

/** What the counters of a database are in these terms. */
export function snapshotOf(metrics: Metrics): MetricsSnapshot {
  const { durations, errorsByCode } = metrics
  return {
    counters: [
      ...durations.map(({ operation, lane, counts }) => ({ name: 'zqlite_queries_total' as const, labels: { operation, lane }, value: counts.reduce((a, b) => a + b, 0) })),
      // Also those that did not happen: a series that begins with its first error shows no increase.
      ...Object.keys(errorCatalogue).map((code) => ({ name: 'zqlite_query_errors_total' as const, labels: { code }, value: errorsByCode[code as ErrorCode] ?? 0 })),
      { name: 'zqlite_calls_expired_total', value: metrics.expired },
      { name: 'zqlite_calls_refused_total', value: metrics.refused },
      { name: 'zqlite_busy_seconds_total', value: metrics.busySeconds },
      { name: 'zqlite_commit_seconds_total', value: metrics.commitSeconds },
      { name: 'zqlite_pool_timeouts_total', value: metrics.poolTimeouts },
      { name: 'zqlite_transactions_started_total', value: metrics.transactionsStarted },
      { name: 'zqlite_transactions_committed_total', value: metrics.transactionsCommitted },
      { name: 'zqlite_transactions_timed_out_total', value: metrics.transactionsTimedOut },
      { name: 'zqlite_group_reruns_total', value: metrics.reruns },
      // There are none yet; the name is there so that dashboards can be.
      { name: 'zqlite_post_quantum_operations_total', value: 0 },
    ],
    gauges: [
      { name: 'zqlite_calls_waiting', value: metrics.waiting },
      { name: 'zqlite_connections_active', value: metrics.connectionsActive },
      { name: 'zqlite_connections_idle', value: metrics.connectionsIdle },
      { name: 'zqlite_wal_bytes', value: metrics.walBytes },
    ],
    histograms: [
      ...durations.map(({ operation, lane, bounds, counts, sum }) => ({ name: 'zqlite_query_duration_seconds' as const, labels: { operation, lane }, bounds, counts, sum })),
      ...metrics.waits.map(({ lane, bounds, counts, sum }) => ({ name: 'zqlite_queue_wait_seconds' as const, labels: { lane }, bounds, counts, sum })),
      { name: 'zqlite_group_size', ...metrics.groupSizes },
      { name: 'zqlite_checkpoint_duration_seconds', ...metrics.checkpoints },
    ],
  }
}

/** The `Content-Type` of {@link prometheusText}. */
export const PROMETHEUS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'
/** The `Content-Type` of {@link openMetricsText}. */
export const OPENMETRICS_CONTENT_TYPE = 'application/openmetrics-text; version=1.0.0; charset=utf-8'

/** The snapshot in the Prometheus text format, version 0.0.4. */
export function prometheusText(snapshot: MetricsSnapshot): string {
  const text: string[] = []
  for (const [name, { type, help }, lines] of linesByFamily(snapshot, String)) {
    text.push(`# HELP ${name} ${escape(help)}\n# TYPE ${name} ${type}\n`)
    for (const line of lines) text.push(render(line))
  }
  return text.join('')
}

/** The snapshot in the text format of OpenMetrics, version 1.0. */
export function openMetricsText(snapshot: MetricsSnapshot): string {
  const text: string[] = []
  for (const [name, { type, unit, help }, lines] of linesByFamily(snapshot, canonical)) {
    // Here the suffix belongs to the sample and not to the family.
    const family = type === 'counter' ? name.replace(/_total$/, '') : name
    text.push(`# TYPE ${family} ${type}\n`)
    if (unit !== undefined) text.push(`# UNIT ${family} ${unit}\n`)
    text.push(`# HELP ${family} ${escapeQuoted(help)}\n`)
    for (const line of lines) text.push(render(line))
  }
  text.push('# EOF\n')
  return text.join('')
}

/** As much of a prom-client `Registry` as is used here. */
export interface PromClientRegistry {
  // Whatever it takes: prom-client declares its classes, and uses less of them.
  registerMetric(metric: never): void
  removeSingleMetric(name: string): void
}

/** What a prom-client `Registry` uses of a metric. */
interface Collector {
  /** Changed by a registry that writes OpenMetrics. */
  name: string
  readonly type: Family['type']
  get(): Promise<{ name: string; help: string; type: string; aggregator: 'sum'; values: CollectedValue[] }>
  reset(): void
}

interface CollectedValue {
  metricName?: string
  labels: Record<string, string>
  value: number
}

/**
 * Adds the metrics to a registry of prom-client, which asks for a snapshot when it is scraped. Its `resetMetrics()` does
 * not reach them. One registry takes one database.
 *
 * @param snapshot called once for each scrape
 * @returns removes them again; to be called before the database is closed, since a scrape would fail after that
 * @throws what the registry throws when it has a metric of one of these names; then none is added
 */
export function registerPromClient(register: PromClientRegistry, snapshot: () => MetricsSnapshot): () => void {
  if (typeof register?.registerMetric !== 'function' || typeof register.removeSingleMetric !== 'function') {
    throw new ZqliteError('ERR_TYPE', `register must be a registry of prom-client, not ${show(register)}`)
  }
  let scraped: Map<string, Line[]> | undefined
  // A registry asks all of its metrics in one turn.
  const scrape = () => {
    if (scraped === undefined) {
      scraped = new Map(linesByFamily(snapshot(), String).map(([name, , lines]) => [name, lines]))
      queueMicrotask(() => (scraped = undefined))
    }
    return scraped
  }
  const registered: string[] = []
  const remove = () => registered.splice(0).forEach((name) => register.removeSingleMetric(name))
  try {
    for (const [name, { type, help }] of Object.entries<Family>(families)) {
      const collector: Collector = {
        name,
        type,
        get: async () => ({
          name: collector.name,
          help,
          type,
          aggregator: 'sum',
          values: (scrape().get(name) ?? []).map(({ name: sample, labels, value }) => ({
            ...(sample !== name && { metricName: sample }),
            labels: Object.fromEntries(labels),
            value,
          })),
        }),
        reset: () => {},
      }
      register.registerMetric(collector as never)
      registered.push(name)
    }
  } catch (error) {
    remove()
    throw error
  }
  return remove
}

/** A line to be written: a histogram has several. */
interface Line {
  name: string
  labels: [name: string, value: string][]
  value: number
}

/** What the snapshot has, in the order of the catalogue; `bound` writes the upper limit of a bucket. */
function linesByFamily(snapshot: MetricsSnapshot, bound: (value: number) => string): [name: string, family: Family, lines: Line[]][] {
  const lines = new Map<string, Line[]>()
  const add = (name: string, more: Line[]) => {
    const before = lines.get(name)
    if (before === undefined) lines.set(name, more)
    else before.push(...more)
  }
  for (const { name, labels, value } of [...snapshot.counters, ...snapshot.gauges]) add(name, [{ name, labels: pairs(labels), value }])
  for (const histogram of snapshot.histograms) add(histogram.name, histogramLines(histogram, bound))
  return Object.entries<Family>(families).flatMap(([name, family]) => {
    const found = lines.get(name)
    return found === undefined ? [] : [[name, family, found]]
  })
}

function histogramLines({ name, labels, bounds, counts, sum }: HistogramSample, bound: (value: number) => string): Line[] {
  if (counts.length !== bounds.length + 1) {
    throw new ZqliteError('ERR_INTERNAL', `${name} has ${bounds.length} bounds and ${counts.length} counts`)
  }
  const common = pairs(labels)
  const lines: Line[] = []
  let total = 0
  for (let i = 0; i < counts.length; i++) {
    total += counts[i] as number
    const le = i < bounds.length ? bound(bounds[i] as number) : '+Inf'
    lines.push({ name: `${name}_bucket`, labels: [...common, ['le', le]], value: total })
  }
  lines.push({ name: `${name}_sum`, labels: common, value: sum }, { name: `${name}_count`, labels: common, value: total })
  return lines
}

const labelNames = ['operation', 'lane', 'code'] as const satisfies (keyof MetricLabels)[]

function pairs(labels: MetricLabels = {}): [string, string][] {
  return labelNames.flatMap((name) => {
    const value = labels[name]
    return value === undefined ? [] : [[name, value]]
  })
}

function render({ name, labels, value }: Line): string {
  const shown = labels.map(([label, text]) => `${label}="${escapeQuoted(text)}"`).join(',')
  return `${name}${shown && `{${shown}}`} ${number(value)}\n`
}

function number(value: number): string {
  return Number.isFinite(value) || Number.isNaN(value) ? String(value) : value > 0 ? '+Inf' : '-Inf'
}

/**
 * A bound as OpenMetrics wants it ("Canonical Numbers"), since readers compare it as text: at least one place after the
 * point, and an exponent of two digits below 0.0001 and from a million on.
 */
function canonical(value: number): string {
  const size = Math.abs(value)
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) {
    return value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2')
  }
  return Number.isInteger(value) ? `${value}.0` : String(value)
}

function escape(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}

function escapeQuoted(text: string): string {
  return escape(text).replaceAll('"', '\\"')
}
