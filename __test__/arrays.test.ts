/** Typed arrays that are given to the native part: memory of other threads, memory that is gone, arrays of other global objects. */
import { runInNewContext } from 'node:vm'
import test from 'ava'
import { AclEngine, CidrTable, Database, ZqliteError } from 'zqlite'

type Kind = 'Uint8Array' | 'Uint16Array' | 'Uint32Array' | 'Float64Array' | 'BigInt64Array'
type Make = (kind: Kind, length: number) => never

/** A call with one array of interest, made by `make`. */
interface Use {
  name: string
  kind: Kind
  length: number
  call: (array: never) => unknown
  /** Default: zeros. */
  sound?: ArrayBufferView
}

const kinds = { Uint8Array, Uint16Array, Uint32Array, Float64Array, BigInt64Array }
const ofBuffer = (kind: Kind, buffer: ArrayBufferLike, length: number) => new kinds[kind](buffer as ArrayBuffer, 0, length)
const bytesOf = (kind: Kind, length: number) => kinds[kind].BYTES_PER_ELEMENT * length

const sound: Make = (kind, length) => ofBuffer(kind, new ArrayBuffer(bytesOf(kind, length)), length) as never
const ofThreads: Make = (kind, length) => ofBuffer(kind, new SharedArrayBuffer(bytesOf(kind, length)), length) as never
const ofThreadsElsewhere: Make = (kind, length) => runInNewContext(`new ${kind}(new SharedArrayBuffer(${bytesOf(kind, length)}))`) as never
const hidden: Make = (kind, length) => Object.defineProperty(ofThreads(kind, length), 'buffer', { value: new ArrayBuffer(8) })
const transferred: Make = (kind, length) => {
  const array = sound(kind, length) as ArrayBufferView<ArrayBuffer>
  structuredClone(0, { transfer: [array.buffer] })
  return array as never
}
const cutOff: Make = (kind, length) => {
  const buffer = new (ArrayBuffer as unknown as new (bytes: number, options: object) => ArrayBuffer & { resize: (bytes: number) => void })(bytesOf(kind, length), { maxByteLength: 4096 })
  const array = ofBuffer(kind, buffer, length)
  buffer.resize(0)
  return array as never
}
const proxy: Make = (kind, length) => new Proxy(sound(kind, length), {})
const other: Make = (_, length) => new Int8Array(length) as never

async function uses(): Promise<{ all: Use[]; close: () => Promise<void> }> {
  const table = new CidrTable()
  table.insert('0.0.0.0/0', 7)
  const saved = table.save()
  const engine = new AclEngine()
  engine.putPeers([{ id: 0, addresses: ['10.0.0.1'], labels: [] }])
  const db = await Database.open(':memory:')
  await db.execute('CREATE TABLE route (id INTEGER PRIMARY KEY, prefix TEXT NOT NULL)')
  await db.execute('CREATE INDEX by_prefix ON route USING cidr(prefix)')
  const index = db.cidr('by_prefix')
  const batch = (given: object) => ({ sources: new Uint32Array(2), destinations: new Uint32Array(2), protocols: new Uint8Array(2), ports: new Uint16Array(2), at: 0, ...given })
  const room = (given: object) => ({ rules: new Float64Array(2), allowed: new Uint8Array(2), ...given })
  const all: Use[] = [
    { name: 'insertAll', kind: 'Uint32Array', length: 1, call: (values) => new CidrTable().insertAll(['::/0'], values) },
    { name: 'lookupBatch v4', kind: 'Uint32Array', length: 2, call: (addresses) => table.lookupBatch(addresses) },
    { name: 'lookupBatch v6', kind: 'Uint8Array', length: 32, call: (addresses) => table.lookupBatch(addresses) },
    { name: 'lookupBatch out', kind: 'Uint32Array', length: 2, call: (out) => table.lookupBatch(['::', '::1'], out) },
    { name: 'lookupBatch out of doubles', kind: 'Float64Array', length: 2, call: (out) => table.lookupBatch(new Uint32Array(2), out) },
    // Bytes without a table are refused for what they hold, which is told later.
    { name: 'load', kind: 'Uint8Array', length: saved.length, call: (bytes) => CidrTable.load(bytes), sound: saved },
    { name: 'index v4', kind: 'Uint32Array', length: 2, call: (addresses) => index.lookupBatch(addresses) },
    { name: 'index v6', kind: 'Uint8Array', length: 32, call: (addresses) => index.lookupBatch(addresses) },
    { name: 'index out', kind: 'BigInt64Array', length: 2, call: (out) => index.lookupBatch(['::', '::1'], out) },
    { name: 'peerClasses', kind: 'Uint32Array', length: 2, call: (peers) => engine.peerClasses(peers) },
    ...(['decideBatch', 'decideAddressesBatch'] as const).flatMap((ask): Use[] => [
      { name: `${ask} sources`, kind: 'Uint32Array', length: 2, call: (sources) => engine[ask](batch({ sources })) },
      { name: `${ask} destinations`, kind: 'Uint32Array', length: 2, call: (destinations) => engine[ask](batch({ destinations })) },
      { name: `${ask} protocols`, kind: 'Uint8Array', length: 2, call: (protocols) => engine[ask](batch({ protocols })) },
      { name: `${ask} ports`, kind: 'Uint16Array', length: 2, call: (ports) => engine[ask](batch({ ports })) },
      { name: `${ask} rules`, kind: 'Float64Array', length: 2, call: (rules) => engine[ask](batch({ into: room({ rules }) })) },
      { name: `${ask} allowed`, kind: 'Uint8Array', length: 2, call: (allowed) => engine[ask](batch({ into: room({ allowed }) })) },
    ]),
  ]
  return { all, close: () => db.close() }
}

test('every call refuses arrays of memory that is shared or gone, and what only looks like an array', async (t) => {
  const { all, close } = await uses()
  const refused: Record<string, [make: Make, message: RegExp]> = {
    ofThreads: [ofThreads, /must not be in a SharedArrayBuffer/],
    ofThreadsElsewhere: [ofThreadsElsewhere, /must not be in a SharedArrayBuffer/],
    hidden: [hidden, /must not be in a SharedArrayBuffer/],
    transferred: [transferred, /has lost its memory/],
    cutOff: [cutOff, /has lost its memory/],
    proxy: [proxy, /must be a/],
    other: [other, /must be a/],
  }
  for (const { name, kind, length, call, ...given } of all) {
    t.notThrows(() => call((given.sound as never) ?? sound(kind, length)), name)
    for (const [how, [make, message]] of Object.entries(refused)) {
      const array = make(kind, length)
      const error = t.throws(() => call(array), { instanceOf: ZqliteError, code: 'ERR_TYPE' }, `${name}: ${how}`)
      t.regex(error.message, message, `${name}: ${how}`)
    }
  }
  await close()
})

test('arrays of another global object are as good as those of this one', (t) => {
  const table = new CidrTable()
  table.insert('10.0.0.0/8', 7)
  const [addresses, out] = runInNewContext('[Uint32Array.of(0x0a000001, 0), new Float64Array(2)]') as [Uint32Array, Float64Array]
  t.deepEqual([...table.lookupBatch(addresses, out)], [7, -1])
  t.deepEqual([...table.lookupBatch(addresses)], [7, 2 ** 32 - 1])
})

test('a getter among texts that takes the memory of the other array away does no harm', (t) => {
  const table = new CidrTable()
  const taking = (array: Uint32Array<ArrayBuffer>): string[] => {
    const texts = Array<string>(array.length).fill('10.0.0.0')
    return Object.defineProperty(texts, array.length - 1, {
      get: () => {
        structuredClone(0, { transfer: [array.buffer] })
        return '10.0.0.1'
      },
    })
  }
  for (const call of [(array: Uint32Array<ArrayBuffer>) => table.insertAll(taking(array), array), (array: Uint32Array<ArrayBuffer>) => table.lookupBatch(taking(array), array)]) {
    t.throws(() => call(new Uint32Array(300_000)), { instanceOf: ZqliteError, code: 'ERR_TYPE', message: /has lost its memory/ })
  }
  t.is(table.size, 0)
})

test('a batch that is no object is refused', (t) => {
  const engine = new AclEngine()
  for (const wrong of [undefined, null, 7, 'x', {}, { sources: new Uint32Array(1) }]) {
    for (const ask of [engine.decideBatch, engine.decideAddressesBatch]) t.throws(() => ask.call(engine, wrong as never), { instanceOf: ZqliteError, code: 'ERR_TYPE' }, JSON.stringify(wrong))
  }
})
