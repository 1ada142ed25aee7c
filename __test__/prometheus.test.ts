/** What monitoring systems read: the rules of both text formats, and the same through prom-client. */
import test from 'ava'
import { Counter, Registry } from 'prom-client'
import { errorCatalogue, ZqliteError } from 'zqlite'
import { type MetricsSnapshot, OPENMETRICS_CONTENT_TYPE, openMetricsText, PROMETHEUS_CONTENT_TYPE, prometheusText, registerPromClient, snapshotOf } from '../dist/lib/prometheus.js'
import { fresh, rejects } from './helpers'

const nasty = 'a\\b"c\nd\\n'

const snapshot: MetricsSnapshot = {
  counters: [
    { name: 'zqlite_queries_total', labels: { operation: 'query', lane: 'reader' }, value: 7 },
    { name: 'zqlite_pool_timeouts_total', value: 0 },
    { name: 'zqlite_queries_total', labels: { lane: 'writer', operation: 'execute' }, value: 5e21 },
    { name: 'zqlite_query_errors_total', labels: { operation: 'execute', code: 'ERR_BUSY' }, value: 2 },
    { name: 'zqlite_calls_expired_total', value: 4 },
    { name: 'zqlite_calls_refused_total', value: 5 },
    { name: 'zqlite_busy_seconds_total', value: 6.25 },
    { name: 'zqlite_commit_seconds_total', value: 0.5 },
    { name: 'zqlite_transactions_timed_out_total', value: 1 },
    { name: 'zqlite_group_reruns_total', value: 8 },
    { name: 'zqlite_transactions_started_total', value: 3 },
    { name: 'zqlite_transactions_committed_total', value: 2 },
    { name: 'zqlite_post_quantum_operations_total', labels: { operation: nasty }, value: 1 },
  ],
  gauges: [
    { name: 'zqlite_connections_active', labels: { lane: 'reader' }, value: 1 },
    { name: 'zqlite_connections_idle', labels: { lane: 'reader' }, value: 3 },
    { name: 'zqlite_wal_bytes', value: 4096.5 },
    { name: 'zqlite_calls_waiting', value: 9 },
  ],
  histograms: [
    { name: 'zqlite_query_duration_seconds', labels: { operation: 'query' }, bounds: [10e-6, 0.0001, 0.25, 1, 10], counts: [3, 0, 2, 1, 0, 4], sum: 81.5 },
    { name: 'zqlite_query_duration_seconds', labels: { operation: 'get' }, bounds: new Float64Array([10e-6]), counts: new Float64Array([1, 0]), sum: 2e-6 },
    { name: 'zqlite_queue_wait_seconds', labels: { lane: 'reader' }, bounds: [1], counts: [1, 0], sum: 0.125 },
    { name: 'zqlite_group_size', bounds: [1, 64, 2 ** 20], counts: [0, 1, 1, 0], sum: 164 },
    { name: 'zqlite_checkpoint_duration_seconds', bounds: [], counts: [2], sum: 3 },
  ],
}

interface Parsed {
  types: Map<string, string>
  units: Map<string, string>
  /** Name and labels as written, and the value. */
  samples: Map<string, number>
}

/** Reads a text by the grammar that both formats share; throws where it is broken. */
function parse(text: string): Parsed {
  const parsed: Parsed = { types: new Map(), units: new Map(), samples: new Map() }
  const done = new Set<string>()
  let family = ''
  if (!text.endsWith('\n')) throw new Error('the last line does not end')
  for (const line of text.slice(0, -1).split('\n')) {
    const [, keyword, name = '', rest = ''] = /^# (HELP|TYPE|UNIT) ([a-z_]+) (.+)$/.exec(line) ?? []
    if (keyword !== undefined) {
      if (name !== family) {
        if (done.has(name)) throw new Error(`${name} is there twice`)
        done.add(name)
        family = name
      }
      if (/(?<!\\)(?:\\\\)*\\(?![\\n"])/.test(rest)) throw new Error(`a wrong escape: ${line}`)
      if (keyword === 'TYPE') parsed.types.set(name, rest)
      if (keyword === 'UNIT') parsed.units.set(name, rest)
    } else if (line !== '# EOF') {
      const [, series = '', sample = '', value = ''] = /^(([a-z_]+)(?:\{[a-z]+="(?:[^"\\]|\\[\\n"])*"(?:,[a-z]+="(?:[^"\\]|\\[\\n"])*")*\})?) (\S+)$/.exec(line) ?? []
      if (!sample.startsWith(family) || family === '') throw new Error(`not a sample of ${family}: ${line}`)
      if (parsed.samples.has(series)) throw new Error(`${series} is there twice`)
      if (!/^[+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)$/.test(value)) throw new Error(`not a number: ${line}`)
      parsed.samples.set(series, Number(value.replace('Inf', 'Infinity')))
    }
  }
  return parsed
}

/** What a registry of prom-client writes, without the empty lines that only one of the formats allows. */
async function scrape(register: { metrics(): Promise<string> }): Promise<Parsed> {
  return parse((await register.metrics()).replaceAll('\n\n', '\n'))
}

const byName = (samples: Map<string, number>) => Object.fromEntries([...samples].sort(([a], [b]) => (a < b ? -1 : 1)))

test('the Prometheus text, to the letter', (t) => {
  const { counters, gauges, histograms } = snapshot
  t.is(
    prometheusText({ counters: counters.slice(0, 2), gauges: gauges.slice(2, 3), histograms: histograms.slice(1, 2) }),
    `# HELP zqlite_query_duration_seconds Time from a call to its answer, waiting included.
# TYPE zqlite_query_duration_seconds histogram
zqlite_query_duration_seconds_bucket{operation="get",le="0.00001"} 1
zqlite_query_duration_seconds_bucket{operation="get",le="+Inf"} 1
zqlite_query_duration_seconds_sum{operation="get"} 0.000002
zqlite_query_duration_seconds_count{operation="get"} 1
# HELP zqlite_queries_total Calls that succeeded.
# TYPE zqlite_queries_total counter
zqlite_queries_total{operation="query",lane="reader"} 7
# HELP zqlite_pool_timeouts_total Calls that found no free lane within connectionTimeout.
# TYPE zqlite_pool_timeouts_total counter
zqlite_pool_timeouts_total 0
# HELP zqlite_wal_bytes Size of the write-ahead log after the last commit.
# TYPE zqlite_wal_bytes gauge
zqlite_wal_bytes 4096.5
`,
  )
})

test('the OpenMetrics text, to the letter', (t) => {
  const { counters, gauges, histograms } = snapshot
  t.is(
    openMetricsText({ counters: counters.slice(0, 1), gauges: gauges.slice(2, 3), histograms: histograms.slice(3, 4) }),
    `# TYPE zqlite_queries counter
# HELP zqlite_queries Calls that succeeded.
zqlite_queries_total{operation="query",lane="reader"} 7
# TYPE zqlite_group_size histogram
# HELP zqlite_group_size Writes that shared one commit.
zqlite_group_size_bucket{le="1.0"} 0
zqlite_group_size_bucket{le="64.0"} 1
zqlite_group_size_bucket{le="1.048576e+06"} 2
zqlite_group_size_bucket{le="+Inf"} 2
zqlite_group_size_sum 164
zqlite_group_size_count 2
# TYPE zqlite_wal_bytes gauge
# UNIT zqlite_wal_bytes bytes
# HELP zqlite_wal_bytes Size of the write-ahead log after the last commit.
zqlite_wal_bytes 4096.5
# EOF
`,
  )
})

test('of nothing there is nothing but the end', (t) => {
  const nothing: MetricsSnapshot = { counters: [], gauges: [], histograms: [] }
  t.is(prometheusText(nothing), '')
  t.is(openMetricsText(nothing), '# EOF\n')
})

for (const [format, write] of [['Prometheus', prometheusText], ['OpenMetrics', openMetricsText]] as const) {
  test(`${format}: families stand together, and buckets add up to the count`, (t) => {
    const { types, samples } = parse(write(snapshot))
    t.deepEqual(['counter', 'gauge', 'histogram'].map((kind) => [...types.values()].filter((type) => type === kind).length), [12, 4, 4])
    const buckets = [...samples].filter(([series]) => series.startsWith('zqlite_query_duration_seconds_bucket{operation="query"')).map(([, value]) => value)
    t.deepEqual(buckets, [3, 3, 5, 6, 6, 10])
    t.is(samples.get('zqlite_query_duration_seconds_count{operation="query"}'), 10)
    t.is(samples.get('zqlite_query_duration_seconds_sum{operation="query"}'), 81.5)
    t.is(samples.get('zqlite_checkpoint_duration_seconds_bucket{le="+Inf"}'), 2)
    t.is(samples.get('zqlite_queries_total{operation="execute",lane="writer"}'), 5e21)
  })

  test(`${format}: backslash, quote and line break of a label are escaped`, (t) => {
    t.true(write(snapshot).includes(String.raw`{operation="a\\b\"c\nd\\n"} 1` + '\n'))
  })
}

test('OpenMetrics: counters end in _total without their family doing so, names end in their unit, bounds are canonical', (t) => {
  const text = openMetricsText(snapshot)
  const { types, units, samples } = parse(text)
  for (const [family, type] of types) {
    t.false(family.endsWith('_total'))
    if (type !== 'counter') continue
    t.true([...samples.keys()].some((series) => series.startsWith(`${family}_total`)), family)
  }
  t.deepEqual([...units.values()], ['seconds', 'seconds', 'seconds', 'seconds', 'bytes', 'seconds'])
  for (const [family, unit] of units) t.true(family.endsWith(`_${unit}`), family)
  const bounds = [...text.matchAll(/duration_seconds_bucket\{operation="query",le="(.*?)"/g)].map(([, le]) => le)
  t.deepEqual(bounds, ['1e-05', '0.0001', '0.25', '1.0', '10.0', '+Inf'])
  t.is(text.indexOf('# EOF\n'), text.length - 6)
})

test('numbers beyond all bounds have their names', (t) => {
  const gauges = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN].map((value) => ({ name: 'zqlite_wal_bytes' as const, value }))
  t.deepEqual(prometheusText({ counters: [], gauges, histograms: [] }).split('\n').slice(2, 5), ['zqlite_wal_bytes +Inf', 'zqlite_wal_bytes -Inf', 'zqlite_wal_bytes NaN'])
})

test('a histogram whose counts do not fit its bounds is a defect', (t) => {
  const error = t.throws(() => prometheusText({ counters: [], gauges: [], histograms: [{ name: 'zqlite_group_size', bounds: [1, 2], counts: [1, 2], sum: 3 }] }), { instanceOf: ZqliteError })
  t.is(error.code, 'ERR_INTERNAL')
})

test('prom-client writes the same series, in both formats', async (t) => {
  for (const [contentType, write] of [[Registry.PROMETHEUS_CONTENT_TYPE, prometheusText], [Registry.OPENMETRICS_CONTENT_TYPE, openMetricsText]] as const) {
    const register = new Registry<typeof contentType>()
    register.setContentType(contentType)
    registerPromClient(register, () => snapshot)
    for (let round = 0; round < 2; round++) {
      const theirs = await scrape(register)
      const ours = parse(write(snapshot))
      t.deepEqual(theirs.types, ours.types)
      // prom-client does not write the bounds of OpenMetrics canonically.
      const plain = (samples: Map<string, number>) => new Map([...samples].map(([series, value]) => [series.replace(/le="([\d.e+-]+)"/, (_, le: string) => `le="${Number(le)}"`), value]))
      t.deepEqual(byName(plain(theirs.samples)), byName(plain(ours.samples)))
    }
  }
})

test('the content types are those of prom-client', (t) => {
  t.is(PROMETHEUS_CONTENT_TYPE, Registry.PROMETHEUS_CONTENT_TYPE)
  t.is(OPENMETRICS_CONTENT_TYPE, Registry.OPENMETRICS_CONTENT_TYPE)
})

test('each scrape sees the database as it is then, in one snapshot', async (t) => {
  const register = new Registry()
  let calls = 0
  registerPromClient(register, () => ({ counters: [{ name: 'zqlite_queries_total', value: ++calls }], gauges: [{ name: 'zqlite_connections_idle', value: calls }], histograms: [] }))
  for (let round = 1; round <= 3; round++) {
    const { samples } = await scrape(register)
    t.deepEqual(byName(samples), { zqlite_connections_idle: round, zqlite_queries_total: round })
  }
  register.resetMetrics()
  t.is((await scrape(register)).samples.get('zqlite_queries_total'), 4)
})

test("a registry's default labels and other metrics go along", async (t) => {
  const register = new Registry()
  register.setDefaultLabels({ app: 'mine' })
  new Counter({ name: 'mine_total', help: 'mine', registers: [register] }).inc(2)
  registerPromClient(register, () => snapshot)
  const { samples } = await scrape(register)
  t.is(samples.get('mine_total{app="mine"}'), 2)
  t.is(samples.get('zqlite_wal_bytes{app="mine"}'), 4096.5)
  const json = await register.getMetricsAsJSON()
  t.is(json.find(({ name }) => name === 'zqlite_wal_bytes')?.values[0]?.value, 4096.5)
})

test('they can be removed; a registry that has a name already gets none of them', async (t) => {
  const register = new Registry()
  const remove = registerPromClient(register, () => snapshot)
  const error = t.throws(() => registerPromClient(register, () => snapshot))
  t.regex(error.message, /already been registered/)
  t.is((await scrape(register)).types.size, 20, 'those of the first are untouched')
  remove()
  t.deepEqual(register.getMetricsAsArray(), [])
  register.registerMetric(new Counter({ name: 'zqlite_wal_bytes', help: 'mine', registers: [] }))
  t.throws(() => registerPromClient(register, () => snapshot))
  t.is(register.getMetricsAsArray().length, 1)
})

test('what the snapshot throws fails the scrape', async (t) => {
  const register = new Registry()
  registerPromClient(register, () => {
    throw new ZqliteError('ERR_CLOSED', 'the database is closed')
  })
  t.is((await t.throwsAsync(register.metrics(), { instanceOf: ZqliteError })).code, 'ERR_CLOSED')
})

test('every metric is there from the beginning, with its labels', async (t) => {
  const db = await fresh(t)
  const { samples } = parse(db.prometheus())
  const series = [...samples.keys()].filter((name) => !name.includes('_bucket'))
  const of = (name: string) => series.filter((given) => given === name || given.startsWith(`${name}{`) || [`${name}_sum`, `${name}_count`].some((part) => given === part || given.startsWith(`${part}{`)))
  const lanes = ['operation="read",lane="reader"', 'operation="write",lane="writer"', 'operation="transaction",lane="writer"', 'operation="stream",lane="stream"', 'operation="sync",lane="sync"']
  t.deepEqual(of('zqlite_queries_total').toSorted(), lanes.map((labels) => `zqlite_queries_total{${labels}}`).toSorted())
  t.deepEqual(of('zqlite_query_duration_seconds').toSorted(), lanes.flatMap((labels) => ['sum', 'count'].map((part) => `zqlite_query_duration_seconds_${part}{${labels}}`)).toSorted())
  t.deepEqual(of('zqlite_query_errors_total').toSorted(), Object.keys(errorCatalogue).map((code) => `zqlite_query_errors_total{code="${code}"}`).toSorted())
  for (const lane of ['reader', 'writer', 'stream']) t.is(samples.get(`zqlite_queue_wait_seconds_count{lane="${lane}"}`), 0)
  for (const name of ['zqlite_pool_timeouts_total', 'zqlite_connections_active', 'zqlite_transactions_started_total', 'zqlite_transactions_committed_total', 'zqlite_post_quantum_operations_total', 'zqlite_wal_bytes', 'zqlite_group_size_count', 'zqlite_checkpoint_duration_seconds_count']) t.is(samples.get(name), 0, name)
  t.true((samples.get('zqlite_connections_idle') ?? 0) >= 2)
  t.is([...samples.keys()].find((name) => name.startsWith('zqlite_query_duration_seconds_bucket')), `zqlite_query_duration_seconds_bucket{${lanes[0]},le="0.00001"}`)
  // prom-client has the same, and no others.
  const register = new Registry()
  t.teardown(db.registerPromClient(register))
  t.deepEqual([...(await scrape(register)).samples.keys()].toSorted(), [...samples.keys()].toSorted())
  await db.execute('CREATE TABLE t (a)')
  await db.checkpoint('truncate')
  await db.execute('INSERT INTO t VALUES (zeroblob(5000000))')
  for (let i = 0; i < 100 && db.metrics().checkpoints.counts.every((n) => n === 0); i++) await new Promise((resolve) => setTimeout(resolve, 50))
  t.true(parse(db.prometheus('openmetrics')).samples.get('zqlite_checkpoint_duration_seconds_count')! > 0)
})

test('the counters of a database arrive, and SQL never does', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE secret_table (a)')
  await Promise.all(Array.from({ length: 9 }, () => db.execute("INSERT INTO secret_table VALUES ('secret_value')")))
  await Promise.all(Array.from({ length: 5 }, () => db.query('SELECT * FROM secret_table')))
  await db.transaction((tx) => tx.execute('DELETE FROM secret_table'))
  await rejects(t, 'ERR_SQL', db.query('SELECT secret_column'))
  const snapshotNow = snapshotOf(db.metrics())
  const text = prometheusText(snapshotNow)
  t.false(text.includes('secret'))
  const { samples } = parse(text)
  t.is(samples.get('zqlite_queries_total{operation="write",lane="writer"}'), 10)
  t.is(samples.get('zqlite_queries_total{operation="read",lane="reader"}'), 5)
  t.is(samples.get('zqlite_query_duration_seconds_count{operation="read",lane="reader"}'), 5)
  t.is(samples.get('zqlite_query_duration_seconds_bucket{operation="read",lane="reader",le="+Inf"}'), 5)
  t.true((samples.get('zqlite_query_duration_seconds_sum{operation="read",lane="reader"}') ?? 0) > 0)
  t.true(text.includes('zqlite_query_duration_seconds_bucket{operation="read",lane="reader",le="0.00001"}'), 'buckets begin at 10 us')
  t.is(samples.get('zqlite_query_errors_total{code="ERR_SQL"}'), 1)
  t.is(samples.get('zqlite_transactions_started_total'), 1)
  t.is(samples.get('zqlite_transactions_committed_total'), 1)
  t.true((samples.get('zqlite_group_size_sum') ?? 0) >= 10)
  t.true((samples.get('zqlite_wal_bytes') ?? 0) > 0)
  t.is(samples.get('zqlite_queue_wait_seconds_count{lane="reader"}'), 6, 'the one that failed waited too')
  t.true((samples.get('zqlite_queue_wait_seconds_count{lane="writer"}') ?? 0) >= 10)
  t.true((samples.get('zqlite_group_size_bucket{le="+Inf"}') ?? 0) <= 11, 'groups, not members')
  parse(openMetricsText(snapshotNow))
})
