/** What is no argument at all gets a typed error that names it, whatever it is; and no memory but the caller's is ever read. */
import { runInNewContext } from 'node:vm'
import test from 'ava'
import { AclEngine, CidrTable, ZqliteError } from 'zqlite'
import { fresh, rejects } from './helpers'

/** Has no `toString`, no `constructor`, and no way to become a number. */
const bare: unknown = Object.create(null)
const odd: unknown = Object.create(Object.create(null) as object)
const symbol = Symbol('s')
const gone = new Uint8Array(4)
structuredClone(0, { transfer: [gone.buffer] })

const engine = new AclEngine()
const query = { source: 1, destination: 1, protocol: 6, port: 1 }
const rule = { id: 1, priority: 0, action: 'allow', sources: ['*'], destinations: ['*'] }

const calls: Record<string, [call: (wrong: never) => unknown, wrong: unknown[], message: RegExp]> = {
  decide: [(wrong) => engine.decide(wrong), [undefined, null], /^a question must be an object/],
  decideAddresses: [(wrong) => engine.decideAddresses(wrong), [undefined, null], /^a question must be an object/],
  explain: [(wrong) => engine.explain(wrong), [undefined, null], /^a question must be an object/],
  explainAddresses: [(wrong) => engine.explainAddresses(wrong), [undefined, null], /^a question must be an object/],
  'a question that is a number': [(wrong) => engine.decide(wrong), [5, 'x', true], /must be/],
  protocol: [(protocol) => engine.decide({ ...query, protocol }), [6n, symbol, bare, gone, '6', null, -1, 256, 0.5, NaN], /^protocol must be an integer from 0 to 255, not /],
  port: [(port) => engine.decide({ ...query, port }), [6n, symbol, bare, gone, '6', null, -1, 65536, 0.5, NaN], /^port must be an integer from 0 to 65535, not /],
  'a misspelled field of a rule without an id': [(id) => engine.putRules([{ ...rule, id, sorces: [] } as never]), [symbol, bare, gone], /^rule .* has no field sorces/],
  affected: [(change) => engine.affected(change), [5, 'x', [], symbol, () => {}], /^a change must be an object/],
  memory: [(memory) => new AclEngine({ memory }), [null, '1', NaN, -1], /./],
  mode: [(mode) => new CidrTable({ mode }), [null, symbol, bare, odd, gone, 'quick'], /^mode must be 'compact' or 'fast', not /],
}

for (const [name, [call, wrong, message]] of Object.entries(calls)) {
  test(`${name}: what cannot be is named`, (t) => {
    for (const value of wrong) t.regex(t.throws(() => call(value as never), { instanceOf: ZqliteError, code: 'ERR_TYPE' }).message, message)
  })
}

test('parameters that cannot be bound are named, on every way', async (t) => {
  const db = await fresh(t)
  const sql = 'SELECT length(?) AS bytes'
  for (const [value, message] of [[odd, /parameter 1 is an instance of a nameless class/], [gone, /parameter 1 is a Uint8Array that has lost its memory/], [symbol, /parameter 1 is a symbol/]] as const) {
    t.regex((await rejects(t, 'ERR_PARAMETERS', db.get(sql, [value as never]))).message, message)
    t.regex(t.throws(() => db.getSync(sql, [value as never]), { instanceOf: ZqliteError, code: 'ERR_PARAMETERS' }).message, message)
  }
  t.deepEqual(await db.get(sql, [new Uint8Array()]), { bytes: 0 }, 'one that is empty is a value')
  // With what lay behind it in memory it would have been longer.
  class Longer extends Uint8Array {
    override get length(): number {
      return 1000
    }
  }
  t.deepEqual(await db.get(sql, [new Longer(4)]), { bytes: 4 })
  t.deepEqual(db.getSync(sql, [new Longer(4)]), { bytes: 4 })
})

test('migrations and registries that are none are named', async (t) => {
  const db = await fresh(t)
  const step = { version: 1, name: 'one', up: 'CREATE TABLE t (a)' }
  for (const wrong of [undefined, null, 5, 'x', symbol]) {
    t.regex((await rejects(t, 'ERR_TYPE', db.migrate([step, wrong as never]))).message, /^migrations\[1\] must be an object/)
  }
  t.regex((await rejects(t, 'ERR_TYPE', db.migrate([{ ...step, down: 'DROP TABLE t' } as never]))).message, /unknown option migrations\[0\]\.down/)
  t.deepEqual(await db.get("SELECT count(*) AS n FROM sqlite_schema"), { n: 0 })
  for (const wrong of [undefined, null, 5, {}, bare, { registerMetric: 5 }]) {
    t.throws(() => db.registerPromClient(wrong as never), { instanceOf: ZqliteError, code: 'ERR_TYPE', message: /^register must be a registry of prom-client/ })
  }
})

test('a parameter of another realm is bound, and what only looks like one is refused', async (t) => {
  const db = await fresh(t)
  const [bytes, date] = runInNewContext('[Uint8Array.of(1, 2), new Date(0)]') as [Uint8Array, Date]
  t.deepEqual(await db.get('SELECT hex(?) AS bytes, ? AS date', [bytes, date]), { bytes: '0102', date: '1970-01-01T00:00:00.000Z' })
  for (const forged of [new Proxy(new Uint8Array(2), {}), Object.create(Uint8Array.prototype), Object.create(Date.prototype)] as Uint8Array[]) {
    await rejects(t, 'ERR_PARAMETERS', db.get('SELECT ?', [forged]))
    t.throws(() => db.getSync('SELECT ?', [forged]), { code: 'ERR_PARAMETERS' })
  }
})
